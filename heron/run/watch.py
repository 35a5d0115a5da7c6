"""Follow a run from its record alone: what a viewer in another process, or on a copied folder, hears.

The record is read again every second and what is new is told to the listener in the order in which it was written, metrics and
events by turns. It leaves out progress within a step, which is not recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from heron.run.reader import Run
from heron.run.records import Record
from heron.run.writer import Listener

INTERVAL = 1.0
"""Seconds between two looks."""


def follow(run: Run, listener: Listener, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Tell `listener` everything that was recorded and everything that will be, until the run has ended."""
    heard_events = heard_metrics = 0
    while True:
        is_over = run.status != "running"
        events, metrics = run.events(), run.metrics()
        for kind, payload in _merge(events[heard_events:], metrics[heard_metrics:]):
            listener(kind, payload)
        heard_events, heard_metrics = len(events), len(metrics)
        if is_over:
            return
        sleep(INTERVAL)


def _merge(events: list[Record], metrics: list[Record]) -> Iterator[tuple[str, Record]]:
    """Events before the metrics of later steps: an event that names a step comes after that step's metrics."""
    waiting = list(metrics)
    for event in events:
        step = event.get("step", event.get("totals", {}).get("step", 0))
        while waiting and waiting[0]["step"] <= step:
            yield "metrics", waiting.pop(0)
        yield event["kind"], event
    for record in waiting:
        yield "metrics", record
