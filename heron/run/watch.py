"""Follow a run from its record alone: what a viewer in another process, or on a copied folder, hears.

The one hard idea: the record is looked at every second, and what is new is told in the order in which it was written, metrics and events
by turns. Of the metrics only what was added is read, so that a long run costs no more than a short one. A run that is resumed takes steps
back; they are told again as they are recorded anew. It leaves out progress within a step, which is not recorded.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from heron.run.index import lines
from heron.run.own import own
from heron.run.reader import METRICS, Run
from heron.run.records import Record, parsed
from heron.run.writer import Listener

INTERVAL = 1.0
"""Seconds between two looks."""
BLOCK = 1 << 20
"""Bytes that are read at once."""


def follow(run: Run, listener: Listener, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Tell `listener` everything that was recorded and everything that will be, until the run has ended."""
    metrics = _Tail(own(run.path, METRICS))
    heard = told = 0
    while True:
        is_over = run.status != "running"
        events = run.events()[heard:]
        heard += len(events)
        told = min([told, *(event["last_step"] for event in events if event["kind"] == "resume")])
        fresh = [record for record in metrics.read() if record["step"] > told]
        for kind, payload in _merge(events, fresh):
            listener(kind, payload)
        told = fresh[-1]["step"] if fresh else told
        if is_over:
            return
        sleep(INTERVAL)


class _Tail:
    """What is added to a file of steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._print = 0, ""

    def read(self) -> list[Record]:
        """The complete lines that were added; every line, if the file is no longer the one that was read."""
        if not self._path.exists():
            return []
        if self._offset and lines.fingerprint(self._path, self._offset) != self._print:
            self._offset = 0
        found: list[bytes] = []
        while more := lines.read_on(self._path, self._offset, BLOCK):
            found += more
            self._offset += sum(map(len, more))
        self._print = lines.fingerprint(self._path, self._offset)
        return parsed(found)[0]


def _merge(events: list[Record], metrics: list[Record]) -> Iterator[tuple[str, Record]]:
    """Events before the metrics of later steps: an event that names a step comes after that step's metrics."""
    waiting = deque(metrics)
    for event in events:
        step = math.inf if event["kind"] == "end" else event.get("step", event.get("totals", {}).get("step", 0))
        while waiting and waiting[0]["step"] <= step:
            yield "metrics", waiting.popleft()
        yield event["kind"], event
    for record in waiting:
        yield "metrics", record
