"""A run as it was at one moment, for what reads its record more than once.

The one hard idea: a page about a live run must not contradict itself, and a long record takes seconds to read; so what was read is kept.
Rollouts and held-out problems are left where they are, since they are read once anyhow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heron.run.reader import EVENTS, METRICS, Run
from heron.run.records import Lines


class Snapshot(Run):
    """The same run, whose status, steps and events no longer change."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.path)
        self._kept: dict[str, Any] = {}

    @property
    def status(self) -> str:
        """As it was when it was first asked for."""
        return str(self._once("status", lambda: Run(self.path).status))

    def lines(self, name: str) -> Lines:
        """What was recorded when it was first asked for, of steps and events."""
        found: Lines = self._once(name, lambda: Run.lines(self, name)) if name in (METRICS, EVENTS) else super().lines(name)
        return Lines(records=list(found.records), spoilt=found.spoilt)

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = read()
        return self._kept[name]
