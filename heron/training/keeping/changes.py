"""What may be set otherwise when a run goes on, and what may not.

The one hard idea: a resumed run is one run, whose record and weights mean what its settings say. What decides what is learnt cannot change
in the middle of it: that is another run, which `heron train --from` begins with this one's model. The settings of before are those in the
checkpoint, so a `config.toml` that was edited by hand is noticed like an option.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heron.config import Config, config_from_dict, load_config, to_toml
from heron.errors import ConfigError, RunError
from heron.run import Run, RunWriter
from heron.run.compare import Difference, settings_otherwise
from heron.training.keeping.finding import Found, step_of
from heron.training.keeping.snapshot import CONFIG

NOTHING = ""
ROUNDING = "what follows is that of a run without a pause up to rounding, not bit for bit"
MAY_CHANGE: Mapping[str, str] = {
    **dict.fromkeys((
        "train.max_steps", "train.save_steps", "train.save_total_limit", "train.keep_best", "train.report_to", "train.strict",
        "train.term_deadline", "train.check_identities", "train.dry_step",
        "evaluation.steps", "evaluation.show", "judge.key_file", "judge.cache", "judge.max_concurrent", "judge.max_rpm",
        "judge.max_spend_tokens", "judge.timeout", "judge.patience", "judge.max_failures", "rewards.timeout", "rollout.vllm_url",
        "rollout.vllm_folder", "train.offload_optimizer",
    ), NOTHING),
    **dict.fromkeys((
        "train.num_threads", "train.micro_batch_tokens", "rollout.max_concurrent", "rollout.cache_gib", "model.gradient_checkpointing",
        "model.offload", "model.tiled_mlp", "model.device",
    ), ROUNDING),
}
"""Settings that another value does not make another run of, each with what is to be said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How a run goes on."""

    config: Config
    """Its settings from now on, as they are written down."""
    changes: tuple[Difference, ...]
    """What is set otherwise than before."""
    found: Found
    """The checkpoint that it goes on from."""

    @property
    def toml(self) -> str | None:
        """The settings to write down; None if they are as they were."""
        return to_toml(self.config) if self.changes else None

    def announce(self, run: RunWriter) -> None:
        """Tell the run what was passed over, and what has changed."""
        for name, fault in self.found.skipped.items():
            run.event("checkpoint_skipped", path=name, fault=fault)
        for sentence in (*self.found.sentences, *self._words()):
            run.event("message", text=sentence)
        if self.changes:
            run.event("settings_changed", changes={each.name: [each.first, each.second] for each in self.changes})

    def _words(self) -> list[str]:
        return [f"Changed: {_difference(each)}{_note(each.name, self.config)}." for each in self.changes]


def going_on(run: Run, found: Found, settings: Mapping[str, Mapping[str, Any]]) -> Continuation:
    """The settings that a run goes on with, `settings` laid on its own; a RunError if it would become another run, or has no step left."""
    written = load_config(run.path / "config.toml")
    config = _absolute_key(load_config(run.path / "config.toml", settings), settings)
    before = written if found.path is None else _settings_in(found.path) or written
    changes = tuple(settings_otherwise(before.as_dict(), config.as_dict()))
    _refuse_another_run(run, changes)
    _refuse_no_step(run, found, before.train.last_step, config.train.last_step)
    return Continuation(config=config, changes=changes, found=found)


def _settings_in(checkpoint: Path) -> Config | None:
    """Those that it was trained with; None in a checkpoint of before, which does not say."""
    path = checkpoint / CONFIG
    return config_from_dict(tomllib.loads(path.read_text()), f"{path}: ") if path.exists() and path.stat().st_size else None


def _refuse_another_run(run: Run, changes: Sequence[Difference]) -> None:
    if others := [each for each in changes if each.name not in MAY_CHANGE]:
        raise ConfigError(
            f"{run.path} cannot go on with other settings of what it learns: {'; '.join(map(_difference, others))}. Leave them as they "
            f"were (in its config.toml, too), or begin a new run with its model: heron train --from {run.path} --section.key=value"
        )


def _refuse_no_step(run: Run, found: Found, before: float, now: float) -> None:
    done = 0 if found.path is None else step_of(found.path)
    if run.status == "finished" and found.path is None:
        raise RunError(f"{run.path} is finished, and none of its checkpoints is whole: it cannot go on. Begin a new run with its model: "
                       f"heron train --from {run.path}")
    if run.status == "finished" and now <= before:
        raise RunError(f"{run.path} is finished: there is nothing to resume. Give it more steps with --train.max_steps=N, more than "
                       f"{before} (max_steps in a script), or begin a new run with its model: heron train --from {run.path}")
    if now < done:
        raise RunError(f"train.max_steps is {now}, but {run.path} has been trained for {done} steps. Give at least as many.")


def _absolute_key(config: Config, settings: Mapping[str, Mapping[str, Any]]) -> Config:
    """A path that was given from this folder is found from any."""
    if config.judge.key_file is None or "key_file" not in settings.get("judge", {}):
        return config
    return replace(config, judge=replace(config.judge, key_file=str(Path(config.judge.key_file).expanduser().resolve())))


def _difference(change: Difference) -> str:
    return f"{change.name} was {change.first!r} and is {change.second!r}"


def _note(name: str, config: Config) -> str:
    note = MAY_CHANGE[name]
    if name == "train.max_steps" and config.train.lr_scheduler_type != "constant":
        note = (f"the {config.train.lr_scheduler_type} schedule of the learning rate ends there from now on, so the result is not that of "
                "a run which had so many steps from the beginning")
    return f" ({note})" if note else ""
