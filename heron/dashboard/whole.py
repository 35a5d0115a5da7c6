"""The course of a long run, for what its alerts say of all steps.

The one hard idea: the record of a hundred thousand steps is too much to read while a page waits, but the index has each number as a column,
and the alerts follow few numbers. So the columns are put side by side again, for a moment at each look, and then only what is new.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from heron.run.alerts.course import Course, is_followed
from heron.run.index import Index
from heron.run.records import Record

AT_ONCE_S = 0.1
"""Seconds for which one look reads on."""
ALL = 1 << 60
"""Points of a curve that is not thinned."""


class Whole:
    """What is known of all steps of a run. Any thread may look."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._generation, self._reached = index.generation, 0
        self._course, self._waiting = Course(), deque[Record]()

    def look(self) -> Course | None:
        """The course of every step that is indexed; None while it is still being made."""
        with self._lock:
            if self._index.generation != self._generation:
                self._begin_anew()
            if not self._waiting:
                self._waiting.extend(self._unread())
            until = time.monotonic() + AT_ONCE_S
            while self._waiting and time.monotonic() < until:
                self._reached = self._waiting[0]["step"]
                self._course.add(self._waiting.popleft())
            return None if self._waiting else self._course

    def _begin_anew(self) -> None:
        """What was known became untrue: steps were taken back."""
        self._generation, self._reached = self._index.generation, 0
        self._course, self._waiting = Course(), deque()

    def _unread(self) -> list[Record]:
        """The steps after the last one that was added, each with the numbers that are followed."""
        names = [name for name in self._index.names() if is_followed(name)]
        records: dict[int, Record] = {}
        for name, curve in self._index.curves(names, after=self._reached, points=ALL).items():
            for step, value in zip(curve.steps, curve.values, strict=True):
                records.setdefault(step, {"step": step})[name] = value
        return [records[step] for step in sorted(records)]
