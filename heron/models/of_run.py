"""The policy of a run directory: as trained, or as it started."""

from __future__ import annotations

from heron.config import load_config
from heron.errors import RunError
from heron.models.loading import load_policy
from heron.models.policy import Policy
from heron.run import Run


def policy_of_run(run: Run, *, start: bool = False) -> Policy:
    """Load the run's trained model, or with `start` the model that training started from."""
    config = load_config(run.path / "config.toml")
    source = run.manifest["start_model"]
    if start:
        return load_policy(config.model, config.tags, source=source, without_adapter=True)
    if not run.model_dir.is_dir():
        raise RunError(f"{run.path} has no trained model yet: its status is {run.status}. Wait for it, or continue it with: "
                       f"heron resume {run.path}")
    if config.model.method == "lora":
        return load_policy(config.model, config.tags, source=source, adapter=run.model_dir)
    return load_policy(config.model, config.tags, source=run.model_dir)
