"""The warm-up: supervised fine-tuning before reinforcement learning, of the embedded model or of any other.

If a good answer has probability 0, reinforcement learning never finds one. So a model can first be shown demonstrations of the format.
The hard idea: what comes out is the start of the run, whole: an evaluation "before", and a KL, are measured from it and not from the
model that was warmed up.

The embedded model is always begun so, by a pupil who often forgets to carry, sometimes guesses and sometimes breaks the format
(`data.arithmetic`): it follows the format often and is right sometimes. It is built once and kept in the user's cache folder, under a
name made of all its settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from heron.config.model import EMBEDDED
from heron.config.schema import Config, TrainConfig
from heron.config.warmup import EMBEDDED_LEARNING_RATE, EMBEDDED_STEPS, WarmupConfig
from heron.data.demonstrations import Lessons, read_lessons, teach
from heron.errors import ConfigError
from heron.folders import cache_folder
from heron.kernels import attention
from heron.models import Policy, load_policy
from heron.models.embedded import build_model, build_tokenizer
from heron.training.demonstrations import samples_of
from heron.training.interrupt import stop_on_interrupt
from heron.training.optimizer import make_optimizer, tables_of
from heron.training.prompts import environment_of, give_tools
from heron.training.supervised import Course, Progress, fit, mean_loss
from heron.types import Prompt

RECIPE_VERSION = 1
"""Raised whenever the code changes what the embedded start is."""
ADAPTER_LEARNING_RATE = 2e-4
FULL_LEARNING_RATE = 1e-5
ADAFACTOR_LEARNING_RATE = 1e-3
"""A share of a weight's own size."""
PARTIAL = ".partial-"
"""What the name of a folder begins with that is not yet whole."""
BETA2 = 0.95
"""Decay of the gradient's running variance: a warm-up is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """What a warm-up has come to."""

    folder: Path
    """Where the model lies, or the adapter, with its tokenizer."""
    steps: int
    """Optimizer steps that were taken."""
    of_steps: int
    """That were to be taken."""
    demonstrations: int
    """Learnt from."""
    heldout: int
    """Set aside, to measure the loss on."""
    before: float | None
    """Mean loss over their answers' tokens; None where none was set aside."""
    after: float | None
    """The same, afterwards."""
    dropped: int
    """Left out, because they ask what the run holds out for its evaluation."""
    too_long: int
    """Left out, because they do not fit into the model's context."""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        left_out = [f"{self.dropped} that ask held-out questions"] if self.dropped else []
        left_out += [f"{self.too_long} that are longer than the context"] if self.too_long else []
        words = f"Warmed up on {self.demonstrations} demonstrations in {self.steps} steps"
        words += f" of {self.of_steps} (interrupted)" if self.steps < self.of_steps else ""
        words += f" (left out: {' and '.join(left_out)})" if left_out else ""
        if self.before is None or self.after is None:
            return f"{words}; none was set aside to measure the loss on."
        return f"{words}; loss on {self.heldout} that were set aside: {self.before:.4f} before, {self.after:.4f} after."

    def record(self) -> dict[str, Any]:
        """For a run's manifest."""
        return {**asdict(self), "folder": str(self.folder)}


def refuse_idle_warmup(config: Config) -> None:
    """Settings of a warm-up that there is none of: the model is not the embedded one, and no demonstrations are named."""
    given = replace(config.warmup, steps=None, learning_rate=None) if _as_before(config.warmup) else config.warmup
    if config.model.name != EMBEDDED and config.warmup.dataset is None and given != WarmupConfig():
        raise ConfigError("The section warmup has settings, but warmup.dataset is not given and the model is not the embedded one, so "
                          "there is no warm-up and they would do nothing. Name the demonstrations, or leave them out.")


def warm_up(
    config: Config, source: str, folder: Path, *, measured: Sequence[Prompt], on_progress: Progress, can_stop: bool = False
) -> Warmed:
    """Fine-tune what the config starts from on `warmup.dataset`, and write it to the new folder `folder`.

    Args:
        config: of the run that is to follow.
        source: folder or hub id of the model.
        folder: must not exist yet; it is there when it is complete.
        measured: held-out problems of the run: demonstrations that ask them are left out.
        on_progress: hears of every step.
        can_stop: the first Ctrl-C ends it early, with what there is.
    """
    lessons = read_lessons(config.warmup, config.data, config.tags, measured=measured)
    torch.manual_seed(config.train.seed)
    policy = load_policy(config.model, config.tags, source=source)
    give_tools(policy, environment_of(config).tools)
    with whole(folder) as partial:
        warmed = _taught(policy, lessons, config, folder, on_progress, can_stop=can_stop)
        policy.save(partial)
    return warmed


def _taught(
    policy: Policy, lessons: Lessons, config: Config, folder: Path, on_progress: Progress, *, can_stop: bool
) -> Warmed:
    samples, long = samples_of(policy, lessons.train)
    heldout, long_too = samples_of(policy, lessons.heldout)
    course, budget = _course(config, len(samples)), config.train.micro_batch_tokens
    optimizer = _optimizer(policy, config.train, course)
    before = mean_loss(policy, heldout, budget=budget) if heldout else None
    with stop_on_interrupt() if can_stop else contextlib.nullcontext() as stop:
        steps = fit(policy, samples, optimizer, course, on_progress, stop)
    after = mean_loss(policy, heldout, budget=budget) if heldout else None
    return Warmed(
        folder=folder, steps=steps, of_steps=course.steps, demonstrations=len(samples), heldout=len(heldout), before=before, after=after,
        dropped=lessons.dropped, too_long=long + long_too,
    )


def _course(config: Config, samples: int) -> Course:
    """The settings, those that were left out filled in."""
    warmup = config.warmup
    rate = ADAPTER_LEARNING_RATE if config.model.has_adapter else FULL_LEARNING_RATE
    rate = ADAFACTOR_LEARNING_RATE if config.train.optimizer == "adafactor" else rate
    return Course(
        steps=warmup.steps or math.ceil((warmup.epochs or 1) * samples / warmup.batch_size), batch_size=warmup.batch_size,
        learning_rate=warmup.learning_rate or rate, seed=warmup.seed, micro_batch_tokens=config.train.micro_batch_tokens,
        recomputes=config.model.recomputes,
    )


def _optimizer(policy: Policy, train: TrainConfig, course: Course) -> torch.optim.Optimizer:
    """The run's kind of optimizer, without weight decay."""
    short = replace(train, learning_rate=course.learning_rate, weight_decay=0.0, adam_beta2=BETA2)
    return make_optimizer(policy.trainable(), short, activations=policy.dtype, tables=tables_of(policy.model))


def warm_start(config: Config, *, on_progress: Progress | None = None) -> Path:
    """Folder of the warmed-up embedded model, in Hugging Face format; built if it is not there yet."""
    folder = cache_folder() / "embedded" / _key(config)
    if not (folder / "config.json").is_file():
        _build(config, folder, on_progress or (lambda done, total: None))
    return folder


def _build(config: Config, folder: Path, on_progress: Progress) -> None:
    attention.register()
    warmup = _of_embedded(config)
    tokenizer = build_tokenizer(config.tags)
    model = build_model(tokenizer, seed=warmup.seed)
    model.set_attn_implementation(attention.NAME)
    policy = Policy(model, tokenizer, tags=config.tags, source="embedded")
    lessons = teach(warmup, digits=config.data.digits, difficulty=config.data.difficulty, tags=config.tags)
    course = Course(
        steps=_embedded_steps(warmup), batch_size=warmup.batch_size, learning_rate=_embedded_rate(warmup), seed=warmup.seed,
    )
    with whole(folder) as partial:
        fit(policy, samples_of(policy, lessons)[0], _optimizer(policy, TrainConfig(), course), course, on_progress)
        policy.save(partial)


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the final one, renamed at the end, so that an interruption leaves nothing half done."""
    partial = folder.parent / f"{PARTIAL}{secrets.token_hex(4)}"
    partial.mkdir(parents=True)
    try:
        yield partial
        if not folder.exists():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _of_embedded(config: Config) -> WarmupConfig:
    """What the embedded model is made with. Where a dataset is named, the settings are those of a second warm-up on top."""
    return config.warmup if config.warmup.dataset is None else WarmupConfig()


def _embedded_steps(warmup: WarmupConfig) -> int:
    return warmup.steps or EMBEDDED_STEPS


def _embedded_rate(warmup: WarmupConfig) -> float:
    return warmup.learning_rate or EMBEDDED_LEARNING_RATE


def _as_before(warmup: WarmupConfig) -> bool:
    """The embedded model's own numbers, which runs of before have written out."""
    return warmup.steps in (None, EMBEDDED_STEPS) and warmup.learning_rate in (None, EMBEDDED_LEARNING_RATE)


def _key(config: Config) -> str:
    warmup = _of_embedded(config)
    names = ("demonstrations", "batch_size", "forget_carry", "skip_working", "break_format", "seed")
    filled = {"steps": _embedded_steps(warmup), "learning_rate": _embedded_rate(warmup)}
    settings = {
        "version": RECIPE_VERSION, "warmup": {name: getattr(warmup, name) for name in names} | filled,
        "digits": config.data.digits, "tags": list(config.tags), "torch": torch.__version__.split("+")[0],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
