"""`GRPOConfig` as TRL 1.16 has it: the same fields with the same defaults, checked when they are given.

The one hard idea: an option that cannot mean here what it means in TRL is refused when the config is made, by name and with what to use
instead; one that means something slightly else is said in a warning. What the trainer does itself (`OF_TRAINER`) and what becomes a setting
of Heron's (`heron.compat.trl.translating`) is the same as there.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.compat.trl.drawing import FIELD, drawn
from heron.compat.trl.steps import counts, raised, with_whole_groups
from heron.compat.trl.translating import KNOWN, from_grpo_config
from heron.errors import ConfigError, did_you_mean

OF_TRAINER: Mapping[str, str] = {
    "output_dir": "The run is recorded in `run-1`, `run-2`, ... in it.",
    "max_steps": "`train.max_steps`, in batches of rollouts.",
    "num_train_epochs": "Becomes `train.max_steps`, counted as TRL counts it.",
    "logging_steps": "How many steps an entry of `trainer.state.log_history` is the mean of; the run holds each.",
    "logging_first_step": "As in TRL.",
    "logging_strategy": "`steps`, `epoch` or `no`, of `log_history`.",
    "eval_strategy": "`no`, `steps` or `epoch`: `trainer.evaluate()` is called.",
    "eval_steps": "As in TRL.",
    "eval_on_start": "As in TRL.",
    "eval_delay": "As in TRL, in steps.",
    "num_generations_eval": "Answers to each prompt of `eval_dataset`.",
    "max_prompt_length": "No prompt is ever cut: one with more tokens is refused before training. (Not in TRL 1.16.)",
    "chat_template_kwargs": "Set at the top of the chat template, which is saved with the model.",
    "max_tool_calling_iterations": "Turns of a rollout less one; None: until the context is full.",
    "disable_tqdm": "True shows no live view.",
    "bf16": "With an adapter the base is loaded in bfloat16; without one, weights stay float32, and nothing is autocast.",
    "model_init_kwargs": "`dtype`, `revision` and `quantization_config` are taken; `attn_implementation`, `device_map` and `use_cache` "
                         "have nothing to do; another key is refused.",
    "gradient_checkpointing": "`model.gradient_checkpointing`.",
    "report_to": "`train.report_to`: csv, tensorboard, trackio, wandb.",
    "reward_weights": "The weights of the reward functions.",
}
"""Options that `GRPOTrainer` sees to, and how."""
BY_HAND = ("model_init_kwargs", "report_to", "gradient_checkpointing", "reward_weights")
"""Those among them that are translated besides."""
ALWAYS = 10**9
"""TRL keeps every checkpoint unless told otherwise."""
OF_BNPO = "objective.loss_type = 'bnpo', counted by micro-batch as in TRL."
"""With `counted_as_trl` there is no difference left."""
TAGS = {"reasoning_start": "<think>", "reasoning_end": "</think>", "solution_start": "<answer>", "solution_end": "</answer>"}
"""TRL's own reward functions look for the first two alone; a template that opens the reasoning is recognised by them."""


@functools.cache
def defaults() -> Mapping[str, Any]:
    """TRL 1.16's fields and their values, as they are before `__post_init__`."""
    fields: dict[str, Any] = json.loads((Path(__file__).parent / "grpo_config.json").read_text(encoding="utf-8"))
    return fields


class GRPOConfig:
    """Options of a `GRPOTrainer`, by TRL's names. Raises ConfigError for one that is unknown or cannot be honoured."""

    def __init__(self, output_dir: str | None = None, **options: Any) -> None:
        self._given: dict[str, Any] = {}
        self._take(options if output_dir is None else {"output_dir": output_dir, **options}, stacklevel=3)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._given:
            return self._given[name]
        if name in defaults():
            value = copy.deepcopy(defaults()[name])
            return "trainer_output" if name == "output_dir" else value
        if name in KNOWN or name in OF_TRAINER:
            return None
        raise AttributeError(f"GRPOConfig has no option {name!r}.{did_you_mean(name, defaults())}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        self._take({**self._given, name: value}, stacklevel=3)

    def __repr__(self) -> str:
        return f"GRPOConfig({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"

    def _take(self, options: Mapping[str, Any], *, stacklevel: int) -> None:
        """These options from now on. Raises for one that cannot be honoured; warns of those that differ and were not given before."""
        notes, before = notes_on(options), self.notes()
        for made in notes:
            if made.kind is Kind.UNSUPPORTED:
                raise ConfigError(f"GRPOConfig({made.field}={made.given!r}) cannot be honoured. {made.text}")
        _warn([made for made in notes if made.kind is Kind.DIFFERS and made not in before], stacklevel=stacklevel + 1)
        whole = with_whole_groups({**defaults(), **options})
        self._given = {name: whole[name] for name in whole if name in options or whole[name] != defaults().get(name)}

    def to_dict(self) -> dict[str, Any]:
        """Every option of TRL 1.16, and others that were given."""
        return {name: getattr(self, name) for name in {**defaults(), **self._given}}

    def notes(self) -> list[Note]:
        """What becomes of each option that was given."""
        return notes_on(self._given)

    def settings(self, *, max_steps: int) -> dict[str, dict[str, Any]]:
        """Heron's settings by section, TRL's defaults among them. `max_steps` are optimizer steps, as TRL counts them."""
        options = _translated(self.to_dict() | {"max_steps": max_steps})
        sections = counted_as_trl(from_grpo_config(options)[0], options)
        sections.get("rewards", {}).pop("weights", None)  # they go with the functions
        return sections

    @property
    def completions_per_batch(self) -> int:
        """Completions of a batch of rollouts."""
        if self.generation_batch_size is not None:
            return int(self.generation_batch_size)
        return int(self.per_device_train_batch_size * (self.steps_per_generation or self.gradient_accumulation_steps))

    @property
    def prompts_per_batch(self) -> int:
        """Prompts of a batch of rollouts."""
        return int(self.completions_per_batch // self.num_generations)

    @property
    def optimizer_steps_per_batch(self) -> int:
        """TRL's steps for each of Heron's."""
        of_step = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return int(self.num_iterations * max(self.completions_per_batch // of_step, 1))

    def steps_of(self, num_prompts: int | None) -> int:
        """Optimizer steps of a run over so many prompts; None where they cannot be counted."""
        if self.max_steps > 0:
            return int(self.max_steps)
        if num_prompts is None:
            raise ConfigError("max_steps must be given where the dataset has no length, as in TRL: GRPOConfig(max_steps=...).")
        return max(math.ceil(self.num_train_epochs * self.steps_per_epoch(num_prompts)), 1)

    def steps_per_epoch(self, num_prompts: int) -> int:
        """Optimizer steps in which each prompt is seen once; the last, smaller batch is left out, as in TRL."""
        return max(num_prompts // self.prompts_per_batch, 1) * self.optimizer_steps_per_batch


def counted_as_trl(sections: dict[str, dict[str, Any]], options: Options) -> dict[str, dict[str, Any]]:
    """The sections that the options became, with TRL's denominators of the losses, and every checkpoint kept unless a limit is set."""
    sections.setdefault("objective", {}).update(token_weights="trl", rows_per_micro_batch=options["per_device_train_batch_size"])
    sections.setdefault("train", {}).setdefault("save_total_limit", ALWAYS)
    return sections


def notes_on(given: Mapping[str, Any]) -> list[Note]:
    """What becomes of options beside TRL's defaults, for a `GRPOTrainer`. Raises ConfigError for an unknown one."""
    for name in given:
        _check_known(name)
    complete = {**defaults(), **given}
    steps = {"max_steps": max(complete["max_steps"], 1)}
    translated = from_grpo_config(_translated(with_whole_groups(complete) | steps))[1]
    by_trainer = [note(name, value, Kind.SAME, OF_TRAINER[name]) for name, value in given.items() if name in OF_TRAINER]
    by_hand = [made for made in translated if made.field in BY_HAND and made.kind in (Kind.UNSUPPORTED, Kind.DIFFERS)]
    counted = [note(made.field, made.given, Kind.SAME, OF_BNPO) for made in translated if made.given == "bnpo"]
    sampled = [drawn(given[FIELD], complete)] if FIELD in given else []
    batch = [made for made in (raised(complete),) if made is not None]
    mine = {made.field: made for made in (*translated, *by_trainer, *by_hand, *counted, *sampled, *counts(complete), *batch)}
    return [mine[name] for name in dict.fromkeys((*given, *(made.field for made in batch)))]


def _translated(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are settings; the others are the trainer's."""
    left = {name: value for name, value in options.items() if name not in OF_TRAINER or name in (*BY_HAND, "max_steps")}
    arguments = {name: value for name, value in (left.pop("model_init_kwargs") or {}).items() if name != "quantization_config"}
    limit = {"save_total_limit": ALWAYS} if left["save_total_limit"] is None else {}
    return left | {"model_init_kwargs": arguments} | limit


def _check_known(name: str) -> None:
    if name not in defaults() and name not in KNOWN and name not in OF_TRAINER:
        raise ConfigError(f"GRPOConfig has no option {name!r}, in any version that is known here.{did_you_mean(name, defaults())}")


def _warn(notes: list[Note], *, stacklevel: int) -> None:
    if notes:
        lines = "\n".join(f"  {made.field}={made.given!r}: {made.text}" for made in notes)
        warnings.warn(f"Some options mean something slightly else in Heron than in TRL:\n{lines}", stacklevel=stacklevel)
