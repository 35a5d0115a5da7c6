"""News for an open page, pushed as server-sent events.

The one hard idea: the id of an event says what the page knows once it has heard it (`generation.step`), so a page that was cut off says
so when it comes back (`Last-Event-ID`, sent by the browser of its own accord), and is told exactly what it has missed. Two kinds:
`news` is the chosen run's state with the points that are new; `runs` is the list of runs. Both come only if something changed.

Left out: a push from the trainer. It knows no viewer, so the files are looked at every second.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from heron.dashboard import views
from heron.dashboard.shelf import Shelf, stamp
from heron.errors import HeronError
from heron.run import Run
from heron.run.index import Index
from heron.run.records import to_json

EVERY_S = 1.0
"""Seconds between two looks at a run."""
LIST_EVERY_S = 3.0
"""Seconds between two looks at the list of runs."""
SIGN_EVERY_S = 15.0
"""Seconds after which a silent stream gives a sign, so that either end notices when the other is gone."""
MOST_POINTS = 400
"""New points of a curve in one event."""
TAIL = 50
"""Steps at the end among which the newest indexed one is looked for."""
CARD_FILES = ("metrics.jsonl", "events.jsonl", "run.json")


async def follow(shelf: Shelf, name: str | None, since: str, closing: threading.Event) -> AsyncIterator[str]:
    """Events for as long as the page is there."""
    looks: list[Any] = [_Run(shelf, name, since)] if name else []
    looks.append(_List(shelf))
    yield "retry: 1500\n\n"
    told = time.monotonic()
    while not closing.is_set():
        for look in looks:
            if event := await run_in_threadpool(look.news):
                yield event
                told = time.monotonic()
        if time.monotonic() - told > SIGN_EVERY_S:
            yield ": still here\n\n"
            told = time.monotonic()
        await asyncio.sleep(EVERY_S)


class _Run:
    """What a page knows of its run."""

    def __init__(self, shelf: Shelf, name: str, since: str) -> None:
        self._shelf, self._name = shelf, name
        known = re.fullmatch(r"(\d{1,18})\.(\d{1,9})", since, re.ASCII)
        self._known = (int(known[1]), int(known[2])) if known else (None, 0)
        self._seen: Any = None

    def news(self) -> str | None:
        """An event, if there is something new."""
        try:
            return self._look()
        except Exception as error:  # boundary: what is wrong with one run is told to the page, which goes on listening
            words = str(error) if isinstance(error, HeronError) else f"This run cannot be read: {error!r}"
            return self._unless_seen("gone", {"error": words}, words)

    def _look(self) -> str | None:
        opened = self._shelf.open(self._name)
        state = views.state(opened)
        generation, (known, last) = state["generation"], self._known
        holds = generation == known and last <= state["step"]
        curves = _curves(opened.index, last if holds else max(0, state["step"] - TAIL))
        reached = max((steps[-1] for curve in curves.values() if (steps := curve["steps"])), default=last if holds else 0)
        self._known = (generation, reached)
        event = {"state": state, "curves": curves if holds else None}
        return self._unless_seen("news", event, (to_json(state), reached), f"{generation}.{reached}")

    def _unless_seen(self, kind: str, value: Any, seen: Any, identity: str | None = None) -> str | None:
        if seen == self._seen:
            return None
        self._seen = seen
        return _event(kind, value, identity)


def _curves(index: Index, after: int) -> dict[str, Any]:
    """The points after that step, of numbers that have some. The record may be a step ahead of them; that one comes with the next look."""
    found = index.curves(index.names(), after=after, points=MOST_POINTS)
    return {name: views.curve(one) for name, one in found.items() if one.steps}


class _List:
    """What a page knows of the list of runs."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._next = 0.0
        self._cards: dict[str, tuple[Any, views.View]] = {}
        self._seen: Any = None

    def news(self) -> str | None:
        """An event, if a run is new, gone or further on."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + LIST_EVERY_S
        cards = [self._card(name, run) for name, run in self._shelf.runs()]
        self._cards = {card["name"]: self._cards[card["name"]] for card in cards}
        if cards == self._seen:
            return None
        self._seen = cards
        return _event("runs", {"folder": str(self._shelf.folder), "runs": cards})

    def _card(self, name: str, run: Run) -> views.View:
        """Made again only when the run's files have changed, or its writer is gone."""
        state = (*(stamp(run.path / file) for file in CARD_FILES), views.status_of(run))
        if name not in self._cards or self._cards[name][0] != state:
            self._cards[name] = (state, views.card(name, run))
        return self._cards[name][1]


def _event(kind: str, value: Any, identity: str | None = None) -> str:
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {kind}\ndata: {to_json(value)}\n\n"
