"""The thread that samples: requests of all clients in one open session, and news of their tokens to the event loop.

The one hard idea: the engine waits for nobody. A ticket's tokens lie in its sequences as they are said; the event loop is woken once a
step, and each client reads what has come since it last looked. A slow client reads more at a time, holds nobody up, and holds no more
memory than its answer. The queue has an end: beyond it a request is turned away at once, with the time after which to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from heron.engine import Request, SamplingParams
from heron.engine.native.sequence import Sequence as Completing
from heron.errors import ConfigError
from heron.serving.fields import Refusal, failure

PATIENCE_S = 10.0
"""Seconds that `close` waits for the thread: a step may be under way."""
RECENT = 32
"""Answers whose time is remembered, to say when a place may be free."""


class Sampling(Protocol):
    """An open session (`engine.native.open.OpenSession`)."""

    @property
    def is_idle(self) -> bool: ...

    def add(self, request: Request, params: SamplingParams) -> list[Completing]: ...

    def drop(self, sequences: Collection[Completing]) -> None: ...

    def step(self) -> list[Completing]: ...


class Ticket:
    """What was asked for, as its client sees it. All but `sequences` and their tokens belongs to the event loop."""

    def __init__(self, requests: Sequence[Request], params: SamplingParams, *, is_stream: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.requests = requests
        self.params = params
        self.is_stream = is_stream
        self.loop = loop
        self.sequences: list[Completing] = []
        self.places = sum(len(request.seeds) for request in requests)
        self.taken = 0  # of the places, while it is in the making
        self.began = time.monotonic()
        self._error: Exception | None = None
        self._news = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Every completion has said all."""
        return bool(self.sequences) and all(one.finish_reason is not None for one in self.sequences)

    async def news(self) -> None:
        """Wait until there is more to read than at the last call. Raises what has gone wrong."""
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error

    def tell(self, error: Exception | None = None) -> None:
        """There is news; called in the event loop."""
        self._error = self._error or error
        self._news.set()


class Batcher:
    """Samples for many clients at once. `open_session` makes the session, and another one after a failure."""

    def __init__(self, open_session: Callable[[], Sampling], *, places: int, max_waiting: int) -> None:
        if max_waiting < 0:
            raise ConfigError(f"max_waiting must be 0 or more, but it is {max_waiting}.")
        self.places = places + max_waiting
        self.taken = 0
        self._open = open_session
        self._session: Sampling | None = None
        self._owners: dict[Completing, Ticket] = {}
        self._wake = threading.Condition()
        self._joining: deque[Ticket] = deque()
        self._leaving: deque[Ticket] = deque()
        self._is_closing = False
        self._has_failed = False  # the last step
        self._seconds: deque[float] = deque([1.0], maxlen=RECENT)
        self._thread = threading.Thread(target=self._work, name="heron-serving", daemon=True)

    @property
    def is_well(self) -> bool:
        """The last step did not fail, and there will be more."""
        return self._thread.is_alive() and not self._has_failed

    def start(self) -> None:
        """Open the session (an error if it cannot be), and begin."""
        self._session = self._open()
        self._thread.start()

    def end(self) -> None:
        """Take nothing in any more, and let the thread end what is in flight with an error, after the step that it is in."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()

    def close(self) -> None:
        """`end`, and wait for the thread."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def submit(self, ticket: Ticket) -> None:
        """Take it in, or refuse it where the queue is full."""
        with self._wake:
            if self._is_closing:
                raise _ending()
            if ticket.places > self.places:
                raise Refusal(f"The request wants {ticket.places} answers, but this server makes {self.places} at most, those that wait "
                              "included. Ask for fewer.", field="n")
            if self.taken + ticket.places > self.places:
                raise self._full()
            ticket.taken = ticket.places
            self.taken += ticket.taken
            self._joining.append(ticket)
            self._wake.notify()

    def leave(self, ticket: Ticket) -> None:
        """Its client is gone, or has all it wants."""
        with self._wake:
            self._leaving.append(ticket)
            self._wake.notify()

    def _free(self, ticket: Ticket) -> None:
        with self._wake:
            self.taken, ticket.taken = self.taken - ticket.taken, 0

    def _full(self) -> Refusal:
        mean = sum(self._seconds) / len(self._seconds)
        return Refusal(f"All {self.places} places of this server are taken, those that wait included. Try again later.", status=429,
                       code="queue_full", retry_after=min(60, math.ceil(mean)))

    # In the thread

    def _work(self) -> None:
        while self._took_in():
            self._step()
        self._fail_all(_ending())

    def _step(self) -> None:
        if self._session is None or self._session.is_idle:
            return
        try:
            self._tell_of(self._session.step())
            self._has_failed = False
        except Exception as error:  # boundary: whatever fails in a step is told to all whose answers were in the making
            self._has_failed = True
            self._fail_all(failure(error))

    def _took_in(self) -> bool:
        """Who comes and who goes, between two steps. False when it is time to end."""
        with self._wake:
            while not (self._is_closing or self._joining or self._leaving or (self._session is not None and not self._session.is_idle)):
                self._wake.wait()
            joining, leaving = list(self._joining), set(self._leaving)
            self._joining.clear()
            self._leaving.clear()
        for ticket in leaving:
            self._drop(ticket)
        for ticket in joining:
            if self._is_closing:
                _tell([ticket], _ending())
            elif ticket not in leaving:
                self._take_in(ticket)
        return not self._is_closing

    def _take_in(self, ticket: Ticket) -> None:
        added: list[Completing] = []
        try:
            self._session = self._session or self._open()
            for request in ticket.requests:
                added += self._session.add(request, ticket.params)
        except Exception as error:  # boundary: of one request; the others go on
            self._free(ticket)
            _tell([ticket], error)
            self._drop_all(added)
            return
        self._owners |= dict.fromkeys(added, ticket)
        ticket.sequences = added
        if ticket.is_stream:  # which may begin to answer
            _tell([ticket])

    def _drop(self, ticket: Ticket) -> None:
        self._free(ticket)
        self._drop_all([one for one in ticket.sequences if self._owners.pop(one, None) is not None])

    def _drop_all(self, sequences: Sequence[Completing]) -> None:
        if self._session is None or not sequences:
            return
        try:
            self._session.drop(sequences)
        except Exception as error:  # boundary: as of a step, or nobody would be told anything any more
            self._fail_all(failure(error))

    def _tell_of(self, spoke: Iterable[Completing]) -> None:
        """Streams of every token, the others at their end."""
        news: dict[Ticket, None] = {}
        for one in spoke:
            ticket = self._owners.get(one)
            if ticket is None:  # a sibling has just gone wrong, and all of them with it
                continue
            if one.wrong is not None:
                self._drop(ticket)
                _tell([ticket], one.wrong)
                continue
            if one.finish_reason is not None:
                del self._owners[one]
                if ticket.has_ended:
                    self._free(ticket)
                    self._seconds.append(time.monotonic() - ticket.began)
            if ticket.is_stream or ticket.has_ended:
                news[ticket] = None
        _tell(news)

    def _fail_all(self, error: Refusal) -> None:
        """What is in the making is lost, and so is the session: it may be in any state. Nothing keeps it (an error that was raised in it
        would), so that its cache is free before another one is made."""
        lost = dict.fromkeys(self._owners.values())
        for ticket in lost:
            self._free(ticket)
        _tell(lost, error)
        self._owners.clear()
        self._session = None


def _ending() -> Refusal:
    return Refusal("The server is shutting down.", status=503, code="shutting_down")


def _tell(tickets: Iterable[Ticket], error: Exception | None = None) -> None:
    """One call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
    for ticket in tickets:
        by_loop.setdefault(ticket.loop, []).append(ticket)
    for loop, its in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            loop.call_soon_threadsafe(_tell_here, its, error)


def _tell_here(tickets: Sequence[Ticket], error: Exception | None) -> None:
    for ticket in tickets:
        ticket.tell(error)
