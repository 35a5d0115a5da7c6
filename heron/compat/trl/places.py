"""Where a trainer's runs lie in `output_dir`, and whether one of them is the run that is to go on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from heron.compat.trl.config import defaults
from heron.config import Config, load_config
from heron.errors import ConfigError, RunError
from heron.run import Run
from heron.training.anchor import anchored
from heron.training.keeping.changes import MAY_CHANGE


def new_folders(output: Path) -> tuple[Path, Path]:
    """For the run, and for what it is made from: `run-1` and `run-1-inputs`, or the first number that is free."""
    numbers = (f"run-{number}" for number in itertools.count(1))
    name = next(name for name in numbers if not (output / name).exists() and not (output / f"{name}-inputs").exists())
    return output / name, output / f"{name}-inputs"


def files_of(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}-inputs")


def newest_run(output: Path) -> Path:
    runs = sorted(output.glob("run-*/run.json"), key=lambda file: int(file.parent.name.removeprefix("run-")))
    if not runs:
        raise RunError(f"There is no run in {output} to go on with. Call train() without resume_from_checkpoint.")
    return runs[-1].parent


def unfinished_run(output: Path) -> Path | None:
    """The newest run there, if it has neither ended nor is being trained."""
    if not any(output.glob("run-*/run.json")):
        return None
    newest = newest_run(output)
    return newest if Run(newest).status in ("interrupted", "failed") else None


def run_of(path: Path) -> Path:
    """The run that a path means: its own, or that of its newest checkpoint."""
    run = next((each for each in (path, *path.parents) if (each / "run.json").is_file()), None)
    if run is None:
        raise RunError(f"{path} is neither a run nor in one. Give resume_from_checkpoint=True, or the path of a run such as output/run-1.")
    newest = max(run.glob("checkpoints/step-*"), default=None)
    if run != path and (newest is None or newest.resolve() != path.resolve()):
        raise RunError(f"{path} is not the newest checkpoint of {run}: a run goes on from that one. Give {run}.")
    return run


def settings_since(config: Config, record: Run) -> dict[str, dict[str, Any]]:
    """What is set otherwise than when the run began, by section. Only what decides nothing that is learnt may be, and for how long."""
    then, now = load_config(record.path / "config.toml").as_dict(), anchored(config).as_dict()
    other = [
        (section, key, value)
        for section, values in now.items() if isinstance(values, dict)
        for key, value in values.items() if then[section].get(key) != value and (section, key) != ("model", "revision")
    ]
    refused = [f"{_option(section, key)} was {then[section].get(key)!r} and is {value!r}"
               for section, key, value in other if f"{section}.{key}" not in MAY_CHANGE or value is None]
    if refused:
        raise ConfigError(f"{record.path} began with other settings: {'; '.join(refused)}. Give the same ones.")
    found: dict[str, dict[str, Any]] = {}
    for section, key, value in other:
        found.setdefault(section, {})[key] = value
    return found


def _option(section: str, key: str) -> str:
    """What a script calls the setting, where it has the same name for it."""
    return key if key in defaults() else f"{section}.{key}"
