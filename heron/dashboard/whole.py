"""The course of a long run, for what its alerts say of all steps.

The one hard idea: the record of a hundred thousand steps is too much to read while a page waits, but the index has each number as a column,
and the alerts follow few numbers. So the columns are put side by side again, for a moment at each look, and then only what is new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

from heron.run.alerts.course import Course, is_followed
from heron.run.index import Curve, Index
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
        self._course: Course = Course()
        self._unread: Iterator[Record] | None = None

    def look(self) -> Course | None:
        """The course of every step that is indexed; None while it is still being made."""
        with self._lock:
            if self._index.generation != self._generation:
                self._begin_anew()
            if self._unread is None:
                names = [name for name in self._index.names() if is_followed(name)]
                self._unread = _side_by_side(self._index.curves(names, after=self._reached, points=ALL))
            until = time.monotonic() + AT_ONCE_S
            for record in self._unread:
                self._reached = record["step"]
                self._course.add(record)
                if time.monotonic() >= until:
                    return None
            self._unread = None
            return self._course

    def _begin_anew(self) -> None:
        """What was known became untrue: steps were taken back."""
        self._generation, self._reached = self._index.generation, 0
        self._course, self._unread = Course(), None


def _side_by_side(curves: Mapping[str, Curve]) -> Iterator[Record]:
    """The steps in order, each with the numbers that it has; one at a time, since all at once would fill the memory."""
    places = dict.fromkeys(curves, 0)
    for step in sorted({step for curve in curves.values() for step in curve.steps}):
        record: Record = {"step": step}
        for name, curve in curves.items():
            place = places[name]
            if place < len(curve.steps) and curve.steps[place] == step:
                record[name] = curve.values[place]
                places[name] = place + 1
        yield record
