"""The pen of a run: the trainer calls it, and everything that is to outlive the process goes through it.

The one hard idea: what is recorded and what is shown are one stream. Each record is first written to its file and then given to
the listeners, so a viewer never shows what a kill could still lose, and the trainer knows no viewer.

Left out: checkpoints and the trained model, which `training` and `models` write into `checkpoints/` and `model/` themselves.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heron.errors import RunError, SaveError
from heron.run import lock, records
from heron.run.reader import EVENTS, METRICS, Run, rollout_file
from heron.run.syncing import Syncer
from heron.types import Group, Rollout

Listener = Callable[[str, Mapping[str, Any]], None]
"""Called as `listener(kind, payload)` with every metrics record ("metrics"), every event by its kind, and "progress"."""

STATUSES = ("running", "finished", "interrupted", "failed")


class RunWriter:
    """Writes one run directory. Made by `create` for a new run and by `reopen` to go on with an old one."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self._listeners: list[Listener] = []
        self._lock = lock.take(directory)
        self._syncer = Syncer()
        self._lines = {name: records.count_lines(directory / name) for name in (METRICS, EVENTS)}

    @classmethod
    def create(cls, directory: str | Path, *, config_toml: str, manifest: Mapping[str, Any]) -> RunWriter:
        """Start a new run in `directory`, which is made if need be and must not hold a run yet."""
        path = Path(directory)
        if (path / "run.json").exists():
            raise RunError(f"{path} already holds a run. Choose another run directory, or resume that run.")
        for folder in ("rollouts", "evaluation", "checkpoints"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        writer = cls(path)
        records.replace(path / "config.toml", config_toml.encode())
        known = {"id": secrets.token_hex(6), "name": path.resolve().name, "created": _now()}
        writer._write_manifest({**known, **manifest, "status": "running"})
        return writer

    @classmethod
    def reopen(
        cls, directory: str | Path, *, last_step: int | None, config_toml: str | None = None, was_last: bool = True
    ) -> RunWriter:
        """Go on after `last_step`: what was recorded of later steps is taken back, so that they can be recorded anew.

        Args:
            directory: of the run.
            last_step: that stays. None: nothing does, what was measured before the first step included.
            config_toml: its settings, where they have been changed.
            was_last: no step comes after it. If one does, an evaluation "after" becomes one of that step.
        """
        run = Run(directory)
        writer = cls(run.path)
        if last_step is not None and not was_last:
            writer._rename_last_evaluation(run, last_step)
        writer._take_back(run, -1 if last_step is None else last_step)
        if config_toml is not None:
            records.replace(run.path / "config.toml", config_toml.encode())
        writer._write_manifest({**run.manifest, "status": "running"})
        writer.event("resume", last_step=last_step or 0)
        return writer

    def subscribe(self, listener: Listener) -> None:
        """Let `listener` hear everything from now on. One that raises is dropped, with a warning and an event: viewers never stop a run."""
        self._listeners.append(listener)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a step's metrics as one line. A number that is not finite is recorded as null."""
        record = {"step": step, **metrics}
        self._append("metrics.jsonl", record)
        self._tell("metrics", record)

    def event(self, kind: str, **fields: Any) -> None:
        """Record that something happened, with the time of day."""
        self._append("events.jsonl", {"kind": kind, "time": time.time(), **fields})
        self._tell(kind, fields)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Tell the listeners how far a phase has come; nothing is recorded."""
        self._tell("progress", {"phase": phase, "done": done, "total": total})

    def rollouts(self, step: int, groups: Sequence[Group]) -> None:
        """Record every rollout of a step with its rewards, a line each, in a file of the step's own."""
        rows = [
            _rollout_row(step, index, sibling, rollout)
            for index, group in enumerate(groups)
            for sibling, rollout in enumerate(group.rollouts)
        ]
        with self._recording():
            records.write_lines(rollout_file(self.path, step), rows, sync=False)
        self._syncer.wrote(rollout_file(self.path, step))

    def evaluation(self, name: str, rows: Iterable[Mapping[str, Any]], totals: Mapping[str, Any]) -> None:
        """Record an evaluation: its problems in a file, its totals as an event (which makes it count)."""
        with self._recording():
            records.write_lines(self.path / "evaluation" / f"{name}.jsonl", rows)
        self.event("evaluation", name=name, totals=dict(totals))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Write the summary and the final status, tell the listeners with the event "end", and let go of the run."""
        assert status in STATUSES, status
        with self._recording():
            records.replace(self.path / "summary.json", records.to_json(summary, indent=2).encode() + b"\n")
        self._write_manifest({**Run(self.path).manifest, "status": status, "ended": _now()})
        self.event("end", status=status, summary=dict(summary))
        self.close()

    def position(self) -> dict[str, Any]:
        """How far the record has come: lines and bytes of the files that grow."""
        sizes = {name: (self.path / name).stat().st_size if count else 0 for name, count in self._lines.items()}
        return {name: {"lines": count, "bytes": sizes[name]} for name, count in self._lines.items()}

    def flush(self) -> None:
        """Have on the disk what was recorded so far; from any thread."""
        self._syncer.flush()

    def close(self) -> None:
        """Let go of the run without a word: to readers it then looks like a killed one."""
        self._syncer.close()
        self._lock.close()

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        with self._recording():
            records.append(self.path / name, record)
        self._lines[name] += 1
        self._syncer.wrote(self.path / name)

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        """What cannot be recorded must not be trained: it would be missing from the record for ever."""
        try:
            yield
        except OSError as error:
            raise SaveError(f"The record in {self.path} cannot be written: {error}. Nothing that was recorded before is lost. Make room "
                           f"there, or let it be written, and go on with: heron resume {self.path}") from error

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        with self._recording():
            records.replace(self.path / "run.json", records.to_json(manifest, indent=2).encode() + b"\n")

    def _rename_last_evaluation(self, run: Run, last_step: int) -> None:
        """In this order a kill leaves both of its names, and nothing is lost."""
        totals = run.evaluations().get("after", {})
        if totals.get("step") == last_step:
            name = f"step-{last_step:06d}"
            if name not in run.evaluations():
                self.evaluation(name, run.evaluation("after").rows, totals)
            (self.path / "evaluation" / "after.jsonl").unlink()

    def _take_back(self, run: Run, last_step: int) -> None:
        for name, totals in run.evaluations().items():
            if totals.get("step", last_step) > last_step:
                (self.path / "evaluation" / f"{name}.jsonl").unlink()
        for step in run.rollout_steps():
            if step > last_step:
                rollout_file(self.path, step).unlink()
        records.cut(self.path / METRICS, lambda record: record["step"] <= last_step)
        records.cut(self.path / EVENTS, lambda record: True)
        self._lines = {name: records.count_lines(self.path / name) for name in (METRICS, EVENTS)}
        (self.path / "summary.json").unlink(missing_ok=True)
        shutil.rmtree(run.model_dir, ignore_errors=True)  # of the step where it ended; the checkpoint has it

    def _tell(self, kind: str, payload: Mapping[str, Any]) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(kind, payload)
            except Exception as error:  # the boundary between a run and its viewers
                self._listeners.remove(listener)
                warnings.warn(f"A viewer failed on {kind!r} and was switched off: {error!r}. Training goes on.", stacklevel=3)
                self.event("listener_failed", on=kind, error=repr(error))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def asked_of(rollout: Rollout) -> records.Record:
    """The whole conversation that was asked, where the question alone does not say it and JSON can hold it."""
    asked = rollout.asked()
    if asked in ([], [{"role": "user", "content": rollout.prompt.question}]):
        return {}
    try:
        records.to_json(asked)
    except TypeError:  # such as a date beside a message's text, which a template may use
        return {}
    return {"asked": asked}


def _rollout_row(step: int, group: int, sibling: int, rollout: Rollout) -> records.Record:
    return {
        "step": step,
        "group": group,
        "sibling": sibling,
        "prompt": rollout.prompt.id,
        "question": rollout.prompt.question,
        "answer": rollout.prompt.answer,
        "prefilled": rollout.prefilled,
        "text": rollout.text,
        "rewards": dict(rollout.rewards),
        "reward": rollout.reward,
        "advantage": rollout.advantage,
        "verdict": rollout.verdict,
        "extracted": rollout.extracted,
        "follows_format": rollout.follows_format,
        "finish_reason": str(rollout.finish_reason),
        "length": rollout.length,
        **(asked_of(rollout) if sibling == 0 else {}),
        **({"conversation": rollout.said()} if len(rollout.turns) > 1 else {}),
        **({"extras": dict(rollout.extras)} if rollout.extras else {}),
        **({"error": rollout.error} if rollout.error is not None else {}),
    }
