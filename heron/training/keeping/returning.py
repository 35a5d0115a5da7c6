"""What is looked at before a run goes on, besides its settings: who writes it, what it began with, and whether its record is whole."""

from __future__ import annotations

from pathlib import Path

from heron.config import Config
from heron.config.judge import START
from heron.errors import RunError
from heron.models.locating import commit_of
from heron.run import Run, RunWriter, lock
from heron.training.keeping.origin import Origin
from heron.training.keeping.snapshot import load_about


def refuse_second_trainer(run_dir: Path) -> None:
    """Before anything is loaded; the lock is taken, and so asked again, when the record is opened."""
    if lock.is_held(run_dir):
        raise RunError(f"{run_dir} is being trained by another process. Wait for it or stop it; `heron watch {run_dir}` shows it.")


def check_start(run: Run, checkpoint: Path | None, config: Config) -> None:
    """Where weights of the start are in use, under an adapter, as a reference or as a judge, they are those of before."""
    recorded = {} if checkpoint is None else load_about(checkpoint).get("start", {})
    if recorded and (config.model.has_adapter or config.objective.beta > 0 or config.judge.name == START):
        source = run.start_model
        origin = Origin(source, revision=commit_of(source, config.model.revision), adapter=config.model.adapter)
        origin.check(recorded, run.path)


def check_record(run: RunWriter, checkpoint: Path | None) -> None:
    """Say so if the record has lost steps that the checkpoint counts on, as after a power cut."""
    recorded = {} if checkpoint is None else load_about(checkpoint).get("record", {})
    for name, now in run.position().items():
        lines = recorded.get(name, {}).get("lines", 0)
        if now["lines"] < lines:
            run.event("message", text=f"{name} has {now['lines']} lines, but there were {lines} when the checkpoint was written: the disk "
                                      "has not kept the others, or they were removed. The weights are whole; the record is not.")
