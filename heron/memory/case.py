"""A run held against a device: what it takes, how long, whether it fits, and the same run with some settings changed.

The one hard idea: a change is a real plan of a real config. Nothing is taken off a sum; the settings are changed, checked as if a user
had given them, and planned anew. The planner knows no device, but the engine does: left to itself it gives its cache a share of what is
free, and lets completions wait, so a cache that would not fit is planned as large as the engine would make it here.

Left out: which changes are worth trying (`changes`), and which is best (`fitting`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from heron.config.schema import Config
from heron.memory.devices import Device
from heron.memory.planner import plan
from heron.memory.seconds import Seconds, step_seconds
from heron.memory.table import ALWAYS, EVALUATION, GPU, HOST, PHASES, SAMPLE, Plan, in_gib

CACHE = "key-value cache"
"""The row of a plan that `rollout.cache_gib` bounds."""
RECLAIMED = "mapped file"
"""The row of a plan that the system shrinks where memory is short: a checkpoint, read through the page cache."""
KAHAN = "adamw_kahan"
"""The optimizer that can train weights of 16 bits."""
SHARE_OF_FREE = {GPU: 0.8, HOST: 0.5}  # of `engine.native.cache`, which cannot be imported without torch
Settings = Mapping[str, Any]
"""Values by `section.key`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A config on a device."""

    config: Config
    """The run's settings, changes included."""
    model: Mapping[str, Any]
    """The model's config.json."""
    prompt_tokens: int
    """Length of the longest prompt."""
    device: Device
    """What it would run on."""
    settings: Settings
    """What was changed so far."""
    plan: Plan
    """Its memory."""
    seconds: Seconds
    """Its time."""

    @property
    def fits(self) -> bool:
        """There is memory enough for every phase, on the device and on its host."""
        host = self.device.host_memory
        return needed(self.plan, self.plan.device) <= self.device.memory and (host is None or needed(self.plan, HOST) <= host)

    @property
    def trains_16_bits(self) -> bool:
        """All weights are trained, and they have 16 bits: there is one optimizer that can."""
        model = self.config.model
        named = str(self.model.get("dtype") or self.model.get("torch_dtype") or "float32") if model.dtype == "auto" else model.dtype
        return not model.has_adapter and not named.endswith("float32")

    @property
    def methods_below(self) -> tuple[str, ...]:
        """Methods that take less memory, and that this run could have instead."""
        is_bound = self.config.train.optimizer == KAHAN and not self.trains_16_bits
        if is_bound or self.model.get("quantization_config"):
            return ()
        ladder = ("full", "lora") if self.config.rollout.engine == "vllm" else ("full", "lora", "qlora")
        method = self.config.model.method
        return ladder[ladder.index(method) + 1 :] if method in ladder else ()

    @property
    def verdict(self) -> str:
        """Whether it fits, in a sentence."""
        place, host = self.plan.device, self.device.host_memory
        takes, there = needed(self.plan, place), self.device.memory
        if takes <= there and host is not None and needed(self.plan, HOST) > host:
            return f"It does not fit the host: it needs {in_gib(needed(self.plan, HOST))} of its memory, and {in_gib(host)} can be used."
        does = "fits" if takes <= there else "does not fit"
        refused = ""
        if self.trains_16_bits and self.config.train.optimizer != KAHAN:
            refused = (f"\nBut {self.config.train.optimizer} cannot train weights of 16 bits, and the run would be refused: use "
                       f"--train.optimizer={KAHAN}, --model.dtype=float32 or --model.method=lora.")
        return f"It {does} {self.device.name}: it needs {in_gib(takes)}, and {in_gib(there)} can be used.{refused}"

    def changed(self, settings: Settings) -> Case:
        """The same run with these settings."""
        changed = {**self.settings, **settings}
        return _case(with_settings(self.config, settings), self.model, self.prompt_tokens, self.device, changed)


def case_of(config: Config, model: Mapping[str, Any], *, prompt_tokens: int, device: Device) -> Case:
    """The run as it was asked for, on this device whatever `model.device` says."""
    return _case(with_settings(config, {"model.device": device.torch_device}), model, prompt_tokens, device, {})


def spelled(settings: Settings) -> str:
    """As a command line takes them: `--model.method=qlora --model.gradient_checkpointing=true`."""
    return " ".join(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items())


def needed(made: Plan, place: str, phases: Collection[str] = PHASES) -> int:
    """Most bytes at one place that have to be there in these phases: without those that the system takes back when it needs them."""
    def lent(phase: str) -> int:
        return sum(row.bytes for row in made.rows if row.name == RECLAIMED and row.phase == phase and row.place == place)

    return max(made.peak_of(phase, place) - lent(phase) for phase in phases)


def cache_of(made: Plan, phase: str) -> int:
    """Bytes of keys and values in one phase."""
    return sum(row.bytes for row in made.rows if row.name == CACHE and row.phase == phase)


def one_completion(config: Config, model: Mapping[str, Any], *, prompt_tokens: int, device: Device) -> int:
    """Bytes of keys and values without which not even one completion can be sampled."""
    alone = with_settings(config, {"rollout.max_concurrent": 1, "rollout.cache_gib": 0.0})
    return cache_of(plan(alone, model, prompt_tokens=prompt_tokens, device=device.place), SAMPLE)


def _case(config: Config, model: Mapping[str, Any], prompt_tokens: int, device: Device, settings: Settings) -> Case:
    made = plan(config, model, prompt_tokens=prompt_tokens, device=device.place)
    share = _share(config, made, device)
    bounded = config
    if share is not None and share * 2**30 >= one_completion(config, model, prompt_tokens=prompt_tokens, device=device):
        bounded = with_settings(config, {"rollout.cache_gib": share})
        made = _said(plan(bounded, model, prompt_tokens=prompt_tokens, device=device.place), device)
    seconds = step_seconds(bounded, model, prompt_tokens=prompt_tokens, device=device)
    return Case(config=config, model=model, prompt_tokens=prompt_tokens, device=device, settings=settings, plan=made, seconds=seconds)


def _share(config: Config, wanted: Plan, device: Device) -> float | None:
    """GiB that the engine would give its cache here, where that is less than the cache would take and nobody has said how much."""
    if config.rollout.cache_gib or config.rollout.engine != "native":
        return None
    free = device.memory - sum(row.bytes for row in wanted.rows if row.phase == ALWAYS and row.place == device.place)
    share = SHARE_OF_FREE[device.place] * free
    return share / 2**30 if share < max(cache_of(wanted, SAMPLE), cache_of(wanted, EVALUATION)) else None


def _said(made: Plan, device: Device) -> Plan:
    """The plan with the origin of its cache: a share of what is free, and no setting."""
    note = f"{SHARE_OF_FREE[device.place]:.0%} of what is free, as the engine takes; completions wait for each other"
    bound = max(cache_of(made, SAMPLE), cache_of(made, EVALUATION))
    rows = (replace(row, note=note) if row.name == CACHE and row.bytes == bound else row for row in made.rows)
    return replace(made, rows=tuple(rows))


def with_settings(config: Config, settings: Settings) -> Config:
    """The config with these values, every section checked once."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    return replace(config, **{section: replace(getattr(config, section), **values) for section, values in sections.items()})
