"""Processes that can be killed: work whose time or memory nobody can promise, apart from the trainer.

The hard idea: only a process can be ended. A thread that computes `9**9**9` cannot be, and stops every other thread meanwhile. So each
request goes to a child with its own main thread, its own memory limit and nothing of our environment, and a child that is late is killed
with all that it started (`heron.rewards.worker`). What is given up so is counted and told of, and costs its deadline once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from heron.errors import RewardError
from heron.rewards.worker import Worker, WorkerLost

MOST_REMEMBERED = 4096
"""Requests that were given up and are not tried again."""


@dataclass(slots=True)
class Lost:
    """What was given up while it was counted."""

    count: int = 0
    """Requests whose child was killed at its deadline, or died."""


@contextlib.contextmanager
def counting() -> Iterator[Lost]:
    """Counts what is given up inside, in this thread and in what it awaits."""
    lost = Lost()
    token = _COUNTED.set((*_COUNTED.get(), lost))
    try:
        yield lost
    finally:
        _COUNTED.reset(token)


_COUNTED: ContextVar[tuple[Lost, ...]] = ContextVar("_COUNTED", default=())


class Pool:
    """A few children, started when they are needed, replaced when they are killed. Any thread may ask.

    >>> pool = Pool("heron.rewards.algebra:serve", size=2, memory_bytes=1 << 30)
    >>> pool.ask({"answer": "2x", "reference": "x+x"}, seconds=5.0)

    With `is_pure` an answer depends on the request alone. So a request that was given up is not tried again, and is warned of, as the
    caller may take it for one without an answer; and one whose child was killed from outside is asked again.
    """

    def __init__(self, target: str, *, argument: Any = None, size: int, memory_bytes: int, is_pure: bool = True) -> None:
        self._arguments = [target, json.dumps(argument), str(memory_bytes)]
        self._is_pure = is_pure
        self._given_up = _GivenUp(target.partition(":")[0])
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[Worker] = []
        self._lock = threading.Lock()

    def ask(self, request: Any, *, seconds: float) -> Any:
        """The child's answer. Raises `WorkerLost` if there is none in time; waiting for a free child is not counted."""
        try:
            return self._pure_answer(request, seconds) if self._is_pure else self._answer(request, seconds)
        except WorkerLost:
            for lost in _COUNTED.get():
                lost.count += 1
            raise

    def close(self) -> None:
        """End the children that are idle; the others end with their requests' deadlines, or with this process."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    def _pure_answer(self, request: Any, seconds: float) -> Any:
        self._given_up.refuse(request, seconds)
        try:
            try:
                return self._answer(request, seconds)
            except WorkerLost as lost:
                if not lost.outside:
                    raise
                return self._answer(request, seconds)
        except WorkerLost as lost:
            if lost.outside:
                raise RewardError(f"No score: twice {lost}.") from lost
            self._given_up.add(request, seconds, lost)
            raise

    def _answer(self, request: Any, seconds: float) -> Any:
        with self._worker() as worker:
            return worker.ask(request, seconds)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            worker = worker if worker is not None and worker.is_alive else Worker(self._arguments)
            try:
                yield worker
            except BaseException:
                worker.kill()
                raise
            with self._lock:
                self._idle.append(worker)


class _GivenUp:
    """The requests that cost a child, and why: the next one of them costs nothing."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._reasons: dict[bytes, tuple[float, str, bool]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def refuse(self, request: Any, seconds: float) -> None:
        """Raises WorkerLost if the request was tried for as long already."""
        tried_for, why, late = self._reasons.get(_key(request), (0.0, "", False))
        if why and seconds <= tried_for:
            raise WorkerLost(why, late=late)

    def add(self, request: Any, seconds: float, lost: WorkerLost) -> None:
        """Remember it; the 1st, 10th, 100th, ... is warned of."""
        with self._lock:
            if len(self._reasons) >= MOST_REMEMBERED:
                del self._reasons[next(iter(self._reasons))]
            self._reasons[_key(request)] = (seconds, str(lost), lost.late)
            self._count += 1
            count = self._count
        if str(count).rstrip("0") == "1":
            warnings.warn(
                f"{self._work} has given up {count} request{'s' * (count > 1)} so far, which count as unreadable. The last, after at most "
                f"{seconds:g} seconds, because {lost}: {json.dumps(request):.200}", stacklevel=2)


def _key(request: Any) -> bytes:
    return hashlib.sha256(json.dumps(request).encode()).digest()
