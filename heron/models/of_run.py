"""The policy of a run directory: as trained, or as it started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heron.config import Config, load_config
from heron.errors import RunError
from heron.models.loading import load_policy
from heron.models.policy import Policy
from heron.run import Run


def policy_of_run(run: Run, *, start: bool = False) -> Policy:
    """Load the run's trained model, or with `start` the model that training started from."""
    config = config_of(run)
    source, kept = run.start_model, run.manifest.get("quantization_kept")
    if start:
        bare = config.model.adapter is None
        return load_policy(config.model, config.tags, source=source, without_adapter=bare, reference=False, kept=kept)
    trained = newest_model(run)
    if config.model.has_adapter:
        return load_policy(config.model, config.tags, source=source, adapter=trained, reference=False, kept=kept)
    return load_policy(config.model, config.tags, source=trained)


def config_of(run: Run) -> Config:
    """Its settings, with the adapter that it started from where that is now."""
    return at_hand(load_config(run.path / "config.toml"), run)


def at_hand(config: Config, run: Run) -> Config:
    """The settings of a run, with the adapter that it started from where that is now."""
    adapter = config.model.adapter
    return config if adapter is None else replace(config, model=replace(config.model, adapter=run.here(adapter)))


def newest_model(run: Run) -> Path:
    """The trained model of a run that has ended, or of the newest checkpoint of one that is under way or was killed."""
    found = run.path.glob("checkpoints/step-*/MANIFEST.json")  # a checkpoint with a manifest was finished
    checkpoints = sorted(found, key=lambda path: int(path.parent.name.removeprefix("step-")))
    if (run.path / "model").is_dir():
        return run.path / "model"
    if not checkpoints:
        raise RunError(f"{run.path} has no trained model and no checkpoint yet; it is {run.status}.")
    return checkpoints[-1].parent / "model"
