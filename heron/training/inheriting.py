"""A new run that begins where another one ended: `heron train --from RUN`.

The one hard idea: what it begins with is copied into its own folder `start/`, as that of a warm-up is, with a note of which run, which step
and which SHA-256 it came from. From then on the new run is like any other: its evaluation "before", its KL, a resume and `--compare start`
mean what lies there, whatever becomes of the run that it came from. An adapter goes on over the same base, which stays where it is.

Left out: the optimizer's moments, the record and the counters, which are the other run's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heron.config import Config, load_config
from heron.config.warmup import WarmupConfig
from heron.errors import ConfigError, RunError
from heron.models.identity import file_hashes
from heron.run import Run
from heron.training.keeping.finding import find, step_of
from heron.training.keeping.returning import refuse_second_trainer
from heron.training.start import Start
from heron.training.warmup import whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a new run takes over."""

    run: Run
    """From which."""
    config: Config
    """Of the new run, an adapter set to the one that was trained."""
    model: Path
    """The trained model's folder, or the adapter's."""
    step: int
    """After which it was written."""
    sentences: tuple[str, ...]
    """What was passed over on the way to it."""

    def begin(self, run_dir: Path) -> Start:
        """The start of the new run, in its own folder."""
        folder = run_dir.resolve() / "start"
        with whole(folder) as partial:
            shutil.copytree(self.model, partial, dirs_exist_ok=True)
        goes_on = self.config.model.adapter is not None
        config = replace(self.config, model=replace(self.config.model, adapter=str(folder))) if goes_on else self.config
        return Start(
            config=config, source=self.run.start_model if goes_on else str(folder), record={"continued_from": self._record(folder)},
            sentences=(*self.sentences, f"Begins with what {self.run.path} had learnt after {self.step} steps."),
            kept=self.run.manifest.get("quantization_kept") if goes_on else None,
        )

    def _record(self, folder: Path) -> dict[str, Any]:
        """For the new run's manifest."""
        manifest = self.run.manifest
        hashes = {name: digest for name, digest in file_hashes(str(folder)) if name.endswith(".safetensors")}
        return {
            "run": str(self.run.path.resolve()), "id": manifest.get("id"), "name": manifest.get("name"), "step": self.step,
            "sha256": hashes, "folder": str(folder),
        }


def inheritance(config: Config, run_dir: Path, *, has_rewards: bool) -> Inheritance:
    """What a run of these settings takes over from the run in `run_dir`; an error if it cannot, before anything is loaded."""
    run = Run(run_dir)
    refuse_second_trainer(run_dir)
    before = load_config(run.path / "config.toml")
    _check_rewards(run, before, config, has_rewards)
    if config.warmup != WarmupConfig():
        raise ConfigError("A warm-up comes before a run, but --from begins with a model that has been trained. Leave out the section "
                          "warmup; or warm up the trained model by itself (heron warmup --model.name=...), and begin with that.")
    if before.model.has_adapter and not config.model.has_adapter:
        raise ConfigError(f"{run_dir} trained an adapter, but model.method is {config.model.method!r}. Leave model.method out; or merge "
                          f"the two with `heron export {run_dir}`, and begin with --model.name=FOLDER.")
    model, step, sentences = _trained(run)
    adapter = str(model.resolve()) if before.model.has_adapter else None
    return Inheritance(
        run=run, config=replace(config, model=replace(config.model, adapter=adapter)), model=model, step=step, sentences=sentences)


def _trained(run: Run) -> tuple[Path, int, tuple[str, ...]]:
    """The folder of its model as it ended, or of the newest whole checkpoint; the step; and what was passed over."""
    if run.model_dir.is_dir() and run.summary is not None:
        return run.model_dir, int(run.summary["steps"]), ()
    found = find(run.path / "checkpoints")
    if found.path is None:
        faults = "".join(f" {sentence}" for sentence in found.sentences)
        raise RunError(f"{run.path} has no trained model and no whole checkpoint yet; it is {run.status}.{faults}")
    return found.path / "model", step_of(found.path), tuple(found.sentences)


def _check_rewards(run: Run, before: Config, config: Config, has_rewards: bool) -> None:
    """A run cannot store functions from Python, and those that its recipe names are not what it was trained with."""
    if run.manifest.get("rewards_from_python") and not has_rewards and config.rewards.functions == before.rewards.functions:
        raise RunError(f"{run.path} was trained with reward functions from Python, which a run cannot store. Name the new run's with "
                       "--rewards.functions=[...], or pass them: heron.train(start_from=..., rewards=[...]).")
