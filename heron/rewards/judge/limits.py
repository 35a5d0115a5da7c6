"""What holds a judge's requests back: a rate, a budget, and a server that is busy or down.

The hard idea: a request that fails because the *server* is down is not that request's failure, and one that breaks the server is not
everybody's. Several failures in a row close the gate for everybody, for 1, 2, 4, ... up to 60 seconds, and bring the server under doubt;
the tries made meanwhile are not counted. Doubt is settled by asking again what was answered before: if that is answered, it was the
requests, and if not, it is the server. Where nothing was ever answered, failures are the server's if it cannot be reached, or if several
different requests failed. One that stays down for longer than `patience` ends the run, which can be resumed, instead of giving its rows up
one by one.

Left out: limits shared by several processes.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable

from heron.errors import RewardStop

IN_A_ROW = 5
"""Failures of requests, one after the other, that bring the server under doubt."""
DIFFERENT = 3
"""Requests that must be among them, as long as nothing was ever answered."""
LONGEST_PAUSE = 60.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before the second try of a request, and at most before a later one."""

Clock = Callable[[], float]


class Gate:
    """Lets requests through: at most `per_minute` of them (0: any number), and none while the server needs rest."""

    def __init__(self, *, per_minute: int, patience: float, clock: Clock = time.monotonic) -> None:
        self._apart = 60.0 / per_minute if per_minute else 0.0
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._shut_until = 0.0
        self._answered: bytes | None = None
        self._failed = 0
        self._who: set[bytes] = set()
        self._doubted_since = 0.0

    def wait(self, left: threading.Event) -> None:
        """Until it is this request's turn, or `left` is set."""
        while (rest := self._turn()) > 0 and not left.wait(rest):
            pass

    def _turn(self) -> float:
        """Takes the turn if it is now, else says how long to wait: one that was taken ahead of time would not know of a pause."""
        with self._lock:
            now = self._clock()
            if (rest := max(self._next, self._shut_until) - now) <= 0:
                self._next = now + self._apart
            return rest

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long: the server has said so."""
        with self._lock:
            self._shut_until = max(self._shut_until, self._clock() + seconds)

    @property
    def probe(self) -> bytes | None:
        """What to ask instead of a request of one's own: something that was answered before, while the server is under doubt."""
        with self._lock:
            return self._answered if self._failed >= IN_A_ROW else None

    def succeeded(self, answered: bytes | None = None) -> None:
        """The server is up; `answered` is the request that it has answered, if it has not only refused one."""
        with self._lock:
            self._answered = answered or self._answered
            self._failed = 0
            self._who.clear()

    def failed(self, request: bytes, why: str, *, is_reached: bool = True) -> bool:
        """True if it may be the server's failure, not the request's. Raises RewardStop if it surely is, and for too long."""
        with self._lock:
            now = self._clock()
            self._failed += 1
            self._who.add(request)
            is_one = self._answered is None and len(self._who) < DIFFERENT and is_reached
            if self._failed < IN_A_ROW or is_one:
                self._doubted_since = now
                return False
            is_sure = self._answered is None or self._answered in self._who
            if is_sure and now - self._doubted_since > self._patience:
                raise RewardStop(f"The judge has answered nothing for {now - self._doubted_since:.0f} seconds, longer than "
                                 f"judge.patience = {self._patience:g}; the last failure: {why}. Bring it back and resume the run; what it "
                                 "has answered so far is cached.")
            pause = min(LONGEST_PAUSE, 2.0 ** min(6, (self._failed - IN_A_ROW) // IN_A_ROW), max(0.1, self._patience / 4))
            self._shut_until = max(self._shut_until, now + pause)
            return True


class Budget:
    """Tokens that may be spent in this process; 0: any number. Requests under way when it ends are still answered and paid."""

    def __init__(self, tokens: int) -> None:
        self._most = tokens
        self._lock = threading.Lock()
        self.spent = 0

    @property
    def used(self) -> float | None:
        """Share of it that is spent; None if any number may be."""
        return self.spent / self._most if self._most else None

    def check(self) -> None:
        """Raises RewardStop if there is nothing left."""
        if self._most and self.spent >= self._most:
            raise RewardStop(f"The judge has used {self.spent:,} tokens, and judge.max_spend_tokens is {self._most:,}. Raise it and resume "
                             "the run; what was answered is cached and costs nothing again.")

    def spend(self, tokens: int) -> None:
        with self._lock:
            self.spent += tokens


def delay(attempt: int) -> float:
    """Seconds before try `attempt + 2`: doubling, with jitter, so that clients that failed together do not return together."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0**attempt) * random.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, which may be a date; 0 for none that can be read."""
    if header is None:
        return 0.0
    if header.strip().isascii() and header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
