"""Looks at a run after each step, and records each alert once: `writer.subscribe(Watchman(writer))`.

The one hard idea: it is a listener like any viewer, so the trainer neither knows what is looked for nor waits for it; all it asks after
a step is whether one of the alerts that it was told to heed has come (`heeded`). What is kept and looked at is bounded, however long the
run: the newest steps, and the course of all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from heron.run.alerts import Alert, History, examine
from heron.run.alerts.course import Course
from heron.run.alerts.history import TAIL
from heron.run.reader import Run
from heron.run.writer import RunWriter

EVERY = "all"
"""Among the ids to stop at: any alert."""


class Watchman:
    """Records the event "alert" the first time that each alert is given reason for. `heeded` is the first one that is to stop the run.
    What was told of the steps that a resumed run goes on from is known, and neither is said again nor stops it."""

    def __init__(self, writer: RunWriter, stop_at: Sequence[str] = ()) -> None:
        self.heeded: Alert | None = None
        self._writer = writer
        self._stop_at = stop_at
        past = Run(writer.path)
        self._known = {str(event["id"]) for event in past.alerts()}
        self._metrics: deque[Mapping[str, Any]] = deque(maxlen=TAIL)
        self._course = Course()
        for record in past.metrics():
            self._see(record)
        self._evaluations: dict[str, Mapping[str, Any]] = dict(past.evaluations())
        self._checkpoint: Mapping[str, Any] = {}
        self._penalties = past.penalties

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind == "metrics":
            self._see(payload)
        elif kind == "evaluation":
            self._evaluations[payload["name"]] = payload["totals"]
        elif kind == "checkpoint":
            self._checkpoint = payload
        else:
            return
        self._look()

    def _see(self, record: Mapping[str, Any]) -> None:
        self._metrics.append(record)
        self._course.add(record)

    def _look(self) -> None:
        history = History(metrics=self._metrics, evaluations=self._evaluations, checkpoint=self._checkpoint, penalties=self._penalties,
                          course=self._course)
        for alert in examine(history):
            if alert.id not in self._known:
                self._known.add(alert.id)
                self._record(alert)

    def _record(self, alert: Alert) -> None:
        step = self._metrics[-1]["step"] if self._metrics else 0
        self._writer.event("alert", id=alert.id, step=step, title=alert.title, evidence=alert.evidence, advice=alert.advice)
        if self.heeded is None and (alert.id in self._stop_at or EVERY in self._stop_at):
            self.heeded = alert
