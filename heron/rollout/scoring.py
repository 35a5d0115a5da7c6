"""Scoring beside sampling: one thread that is handed groups as they finish.

The one hard idea: nothing is caught and nothing waits for long. What a reward raises is raised again in the thread that samples, at its
next token; and a sampler that is stopped does not wait for the reward that is running (the thread is a daemon, so neither does Python).
What it leaves out: rewards on several threads, which would change their order.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol

from heron.engine.protocol import Progress
from heron.types import Rollout

Score = Callable[[Sequence[Rollout]], list[Rollout]]
"""The rollouts of a group to the same ones with their rewards."""


class Clock(Protocol):
    """Takes the time of a step."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Time spent inside belongs to phase `name`."""
        ...

    def beside(self, name: str, seconds: float) -> None:
        """So much of phase `name` happened while another one went on."""
        ...


class NoClock:
    """Takes no time."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def beside(self, name: str, seconds: float) -> None:
        pass


class BackgroundScoring:
    """Scores groups in the order in which they are handed in. Use it in a `with`."""

    def __init__(self, score: Score) -> None:
        self._seconds, self._waited = 0.0, 0.0
        self._score = score
        self._queue: queue.SimpleQueue[tuple[Sequence[Rollout], Future[list[Rollout]]] | None] = queue.SimpleQueue()
        self._futures: dict[int, Future[list[Rollout]]] = {}
        self._failed = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._work, name="heron-rewards", daemon=True)

    def __enter__(self) -> BackgroundScoring:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Whatever has not been scored yet is left."""
        self._left.set()
        self._queue.put(None)

    def take(self, number: int, rollouts: Sequence[Rollout]) -> None:
        """Score group `number`; returns at once."""
        future: Future[list[Rollout]] = Future()
        self._futures[number] = future
        self._queue.put((rollouts, future))

    def checked(self, on_token: Progress) -> Progress:
        """`on_token`, which first raises what a reward has raised, if any has."""

        def told(done: int, total: int) -> None:
            if self._failed.is_set():
                self.results()
            on_token(done, total)

        return told

    def results(self) -> list[list[Rollout]]:
        """The scored groups in the order of their numbers. Waits for them; raises what a reward has raised."""
        begun = time.perf_counter()
        scored = {number: future.result() for number, future in self._futures.items()}  # in the order in which they are scored
        self._waited = time.perf_counter() - begun
        return [scored[number] for number in sorted(scored)]

    @property
    def overlapped(self) -> float:
        """Seconds of scoring that nobody waited for."""
        return max(0.0, self._seconds - self._waited)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._left.is_set():
            rollouts, future = job
            begun = time.perf_counter()
            try:
                scored = self._score(rollouts)
            except BaseException as error:  # boundary: another thread waits for the result, and is given the error instead
                future.set_exception(error)
                self._failed.set()
                return
            self._seconds += time.perf_counter() - begun
            future.set_result(scored)
