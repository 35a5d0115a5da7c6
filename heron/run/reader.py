"""A run directory, read: the same on a live, a dead and a copied run.

The one hard idea: the record is the truth, so nothing here is remembered; every call reads the files as they are now. A run that
calls itself running while nobody holds its lock was killed, and is reported as interrupted. Lines that cannot be read are left out, and
`flaws` says so. What is not the run's own file is not opened (see `own`).

Files: `run.json` (manifest), `config.toml` (resolved), `metrics.jsonl` (a line per step), `events.jsonl`, `rollouts/step-000010.jsonl`
(a line per rollout), `evaluation/<name>.jsonl` (a line per problem), `checkpoints/`, `model/`, `summary.json`.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heron.errors import RunError, did_you_mean
from heron.run import lock, records
from heron.run.own import is_own, own
from heron.run.records import Lines, Record

METRICS, EVENTS = "metrics.jsonl", "events.jsonl"
FORMS: Mapping[str, tuple[str, type]] = {
    METRICS: ("step", int), EVENTS: ("kind", str), "rollouts": ("group", int), "evaluation": ("id", str)}
"""What a line of each file, or of each file in a folder, has at least."""
ROLLOUTS = re.compile(r"step-([0-9]{6,})\.jsonl")
"""Names of files in `rollouts/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One measurement on the held-out problems."""

    name: str
    """`before`, `after`, or `step-000020`."""
    totals: Mapping[str, Any]
    """Accuracy, pass@1 and their intervals, mean reward, format rate, length, truncation, step."""
    rows: tuple[Record, ...]
    """One per problem: id, question, answer, greedy text, verdict, reward, length, truncated, samples."""


class Run:
    """A run directory. Example: `Run("runs/first").metrics()[-1]["reward"]`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            raise RunError(_advice(self.path))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def manifest(self) -> Record:
        """Who and what: id, name, status, created, argv, versions, model, rewards, tags."""
        return _read_json(own(self.path, "run.json"))

    @property
    def status(self) -> str:
        """`running`, `finished`, `interrupted` or `failed`."""
        status = str(self.manifest.get("status"))
        return "interrupted" if status == "running" and not lock.is_held(self.path) else status

    @property
    def penalties(self) -> frozenset[str]:
        """Reward functions that are known to take away only, so that 0 is their best."""
        return frozenset(self.manifest.get("penalties") or ())

    @property
    def config_toml(self) -> str:
        """The resolved configuration, as text; RunError if it is missing or no text."""
        path = own(self.path, "config.toml")
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing, so the run is incomplete. Copy it from where the run was trained.") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}). Restore it from a copy.") from error

    @property
    def settings(self) -> Record:
        """The resolved configuration, as nested mappings; RunError if it cannot be read."""
        text = self.config_toml
        try:
            return tomllib.loads(text)
        except ValueError as error:
            raise RunError(f"{self.path / 'config.toml'} cannot be read ({error}). Restore it from a copy.") from error

    @property
    def known_settings(self) -> Record:
        """The same for who can do without: nothing where it cannot be read."""
        try:
            return self.settings
        except RunError:
            return {}

    @property
    def start_model(self) -> str:
        """Folder or hub id that training started from."""
        return self.here(str(self.manifest["start_model"]))

    def here(self, folder: str) -> str:
        """The folder; or the run's own start, if it names that, where the run is now: it may have been moved or copied."""
        made = [(self.manifest.get(key) or {}).get("folder") for key in ("warmup", "continued_from")]
        return str((self.path / "start").resolve()) if folder in made else folder

    @property
    def summary(self) -> Record | None:
        """What the run came to, or None while it has not ended."""
        path = own(self.path, "summary.json")
        return _read_json(path) if path.exists() else None

    @property
    def error(self) -> str | None:
        """What ended the run early, as it was recorded; None if nothing did, or if it was killed before it could say so."""
        error = (self.summary or {}).get("error")
        return None if error is None else str(error).rstrip(": ")

    @property
    def resume_command(self) -> str:
        """What one types to go on: in a shell, or in Python where the run's reward functions came from there."""
        if self.manifest.get("rewards_from_python"):
            return f"heron.resume({str(self.path)!r}, rewards=[...])"
        return self.command("resume")

    def command(self, verb: str, *options: str) -> str:
        """`heron VERB` on this run, to be pasted into a shell."""
        return shlex.join(["heron", verb, str(self.path), *options])

    @property
    def model_dir(self) -> Path:
        """Where the trained model lies, in Hugging Face format, once the run has come to that."""
        return self.path / "model"

    def metrics(self) -> list[Record]:
        """Every recorded step, in order. Null stands for a number that was not finite."""
        return self.lines(METRICS).records

    def events(self, kind: str | None = None) -> list[Record]:
        """Everything that happened, or only the events of one kind."""
        return [event for event in self.lines(EVENTS).records if kind in (None, event["kind"])]

    def lines(self, name: str) -> Lines:
        """What can be read of a record file, such as `metrics.jsonl` or `evaluation/before.jsonl`."""
        return records.read_lines(own(self.path, name), *FORMS[name.partition("/")[0]])

    def alerts(self) -> list[Record]:
        """The events of the alerts, in the order in which they were told, without those of steps that a resume took back."""
        return alerts_among(self.events())

    def torn(self) -> tuple[str, ...]:
        """Record files whose last line a kill left incomplete. That line is not read; the others are."""
        files = (*(self.path / name for name in (METRICS, EVENTS)), *sorted(self.path.glob("evaluation/*.jsonl")))
        return tuple(str(path.relative_to(self.path)) for path in files if is_own(self.path, path) and records.is_torn(path))

    def rollout_steps(self) -> tuple[int, ...]:
        """Steps whose rollouts were recorded."""
        names = (path.name for path in self.path.glob("rollouts/step-*.jsonl"))
        return tuple(sorted(step for name in names if (step := step_of(name)) is not None))

    def rollouts(self, step: int) -> list[Record]:
        """Every rollout of a step, with its rewards and its advantage."""
        path = rollout_file(self.path, step)
        if not path.exists():
            known = self.rollout_steps()
            span = f"It has them for {len(known)} steps, {known[0]} to {known[-1]}." if known else "It has recorded none yet."
            raise RunError(f"{self.path} has no rollouts of step {step}. {span}")
        return self.lines(f"rollouts/{path.name}").records

    def evaluations(self) -> dict[str, Mapping[str, Any]]:
        """Totals of every evaluation by name, oldest first; a figure that is null is none."""
        latest: dict[str, Mapping[str, Any]] = {}
        for event in self.events("evaluation"):
            latest.pop(event["name"], None)
            latest[event["name"]] = {key: value for key, value in event["totals"].items() if value is not None}
        return {name: totals for name, totals in latest.items() if (self.path / "evaluation" / f"{name}.jsonl").exists()}

    def evaluation(self, name: str) -> Evaluation:
        """The evaluation of that name; RunError if it has not been made."""
        known = self.evaluations()
        if name not in known:
            raise RunError(f"{self.path} has no evaluation {name!r}; it has {', '.join(known) or 'none'}.{did_you_mean(name, known)}")
        return Evaluation(name=name, totals=known[name], rows=tuple(self.lines(f"evaluation/{name}.jsonl").records))


def list_runs(folder: str | Path) -> tuple[Run, ...]:
    """The runs directly inside `folder` (or the one that it is), newest first; RunError if there is no such folder."""
    path = Path(folder)
    if (path / "run.json").is_file():
        return (Run(path),)
    if not path.is_dir():
        raise RunError(f"There is no folder {path}. Start a run with `heron train`, or name the folder that holds your runs.")
    runs = [Run(child) for child in path.iterdir() if (child / "run.json").is_file()]
    return tuple(sorted(runs, key=_created, reverse=True))


def rollout_file(directory: Path, step: int) -> Path:
    """Where the rollouts of a step are recorded."""
    return directory / "rollouts" / f"step-{step:06d}.jsonl"


def step_of(name: str) -> int | None:
    """The step whose rollouts a file of that name holds; None for any other file, such as a copy that another program put beside it."""
    found = ROLLOUTS.fullmatch(name)
    return int(found[1]) if found else None


def alerts_among(events: Iterable[Record]) -> list[Record]:
    """The alerts among the events that still count: what was told of a step that was taken back may come anew."""
    found: list[Record] = []
    for event in events:
        if event["kind"] == "alert":
            found.append(event)
        elif event["kind"] == "resume":
            found = [alert for alert in found if alert.get("step", 0) <= event.get("last_step", 0)]
    return found


def reward_names(metrics: list[Record]) -> list[str]:
    """Reward functions in the order in which they were logged."""
    keys = dict.fromkeys(key for record in metrics for key in record)
    return [key.removeprefix("rewards/").removesuffix("/mean") for key in keys if key.startswith("rewards/") and key.endswith("/mean")]


def _created(run: Run) -> tuple[str, str]:
    """When it was started; a run whose manifest is spoilt, or gone by now, counts as the oldest, so that it does not hide the others."""
    try:
        return str(run.manifest.get("created", "")), run.path.name
    except (RunError, OSError):
        return "", run.path.name


def _read_json(path: Path) -> Record:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid JSON ({error}). Restore it from a copy.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is not a JSON object. Restore it from a copy.")
    return value


def _advice(path: Path) -> str:
    inside = list_runs(path) if path.is_dir() else ()
    if inside:
        return f"{path} is not a run but holds {len(inside)}: name one, such as {inside[0].path}, the newest."
    if not path.exists():
        return f"There is no run at {path}. {_newest_here() or 'Check the path; `heron runs` lists the runs you have.'}"
    return f"{path} is not a run directory (it has no run.json). {_newest_here() or 'Name a folder that `heron train` wrote.'}"


def _newest_here() -> str:
    """The run that was probably meant, as a sentence; empty where there is none."""
    folder = Path("runs")
    runs = list_runs(folder) if folder.is_dir() else ()
    return f"The newest run here is {runs[0].path}." if runs else ""
