"""What holds a judge's requests back: a rate, a budget, and a server that is busy or down.

The hard idea: a request that fails because the *server* is down is not that request's failure. Several failures in a row, of whatever
requests, close the gate for everybody, for 1, 2, 4, ... up to 60 seconds; the tries made meanwhile are not counted against a request. A
server that stays down for longer than `patience` ends the run, which can be resumed, instead of giving its rows up one by one.

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
"""Failures of requests, one after the other, that mean that the server is down."""
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
        self._failed = 0
        self._down_since = 0.0

    def wait(self, left: threading.Event) -> None:
        """Until it is this request's turn, or `left` is set."""
        with self._lock:
            turn = max(self._next, self._shut_until, self._clock())
            self._next = turn + self._apart
        while (rest := max(turn, self._shut_until) - self._clock()) > 0 and not left.wait(rest):
            pass

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long: the server has said so."""
        with self._lock:
            self._shut_until = max(self._shut_until, self._clock() + seconds)

    def succeeded(self) -> None:
        with self._lock:
            self._failed = 0

    def failed(self, why: str) -> bool:
        """True if the server itself seems to be down. Raises RewardStop if it has been for too long."""
        with self._lock:
            now = self._clock()
            self._down_since = self._down_since if self._failed else now
            self._failed += 1
            if self._failed < IN_A_ROW:
                return False
            if now - self._down_since > self._patience:
                raise RewardStop(f"The judge has answered nothing for {now - self._down_since:.0f} seconds, longer than judge.patience = "
                                 f"{self._patience:g}; the last failure: {why}. Bring it back and resume the run; what it has answered so "
                                 "far is cached.")
            pause = min(LONGEST_PAUSE, 2.0 ** min(6, (self._failed - IN_A_ROW) // IN_A_ROW), max(0.1, self._patience / 4))
            self._shut_until = max(self._shut_until, now + pause)
            return True


class Budget:
    """Tokens that may be spent in this process; 0: any number. Requests under way when it ends are still answered and paid."""

    def __init__(self, tokens: int) -> None:
        self._most = tokens
        self._lock = threading.Lock()
        self.spent = 0

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
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
