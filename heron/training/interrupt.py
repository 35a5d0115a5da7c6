"""Ctrl-C once: finish the step, save, report. Twice: give the step up, save what is finished. Three times: stop at once.

A SIGTERM is heard as Ctrl-C is, and as a second one when its deadline has come.

The hard idea: what is given up must not leave half a step in the weights. So the exception that gives a step up is held back while they
move, and while a record or a checkpoint is written (`StopRequest.held`), and is raised where that has ended. A held signal waits for as
long as that takes; the third one waits for nothing.

The deadline is kept by a thread that sleeps, since an alarm may belong to a reward function. All it does is to send the main thread
another signal, which also ends a wait for a worker, a judge or a server.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_ONCE = 3
"""So many signals end everything without saving."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended what was under way, and nothing more is to be done."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(f"by {signal.Signals(number).name}")
        self.number = number


class StopNow(Interrupted):
    """The step under way is given up; what is finished is to be saved."""


class StopRequest:
    """Whether somebody asked the loop to end, and how soon. A first signal only sets it: a handler that did more could meet a lock."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that was heard."""
        self.is_announced = False
        self._heard = 0
        self._is_asked = False
        self._depth = 0
        self._is_given_up = False
        self._is_owed = False

    @property
    def is_set(self) -> bool:
        """The loop is to end after this step."""
        return self._heard > 0 or self._is_asked

    @property
    def is_last(self) -> bool:
        """The next signal ends everything."""
        return self._heard == AT_ONCE - 1

    @property
    def signal_name(self) -> str | None:
        """`SIGINT`, `SIGTERM`; None if there was none."""
        return None if self.number is None else signal.Signals(self.number).name

    def ask(self) -> None:
        """The program itself wants the loop to end after this step; it knows, so nothing is announced."""
        self._is_asked = self.is_announced = True

    def hear(self, number: int) -> None:
        """A signal has come."""
        self._heard += 1
        self.number = self.number or number
        if self._heard >= AT_ONCE:
            raise Interrupted(self.number)
        if self._heard > 1:
            self.give_up()

    def announcement(self, saved_step: int | None, deadline: float) -> str:
        """What a first signal has brought about."""
        at = f"step {saved_step}" if saved_step else "the start"
        if self.number == signal.SIGTERM:
            return (f"SIGTERM: stopping after this step, which is then saved. If it takes longer than {deadline:g} more seconds "
                    "(train.term_deadline), it is given up and the steps before it are saved.")
        return ("Stopping after this step, which is then saved. Ctrl-C again gives this step up and saves the steps before it now; a third "
                f"one stops at once, and a resumed run then goes on from {at}.")

    def give_up(self) -> None:
        """Raise StopNow, as soon as nothing holds it; once."""
        if self._is_given_up:
            return
        self._is_given_up = self._is_owed = True
        self._pay()

    def insist(self) -> None:
        """Raise StopNow again if what was to be given up has gone on: a user's function may have caught it, and made a value of it."""
        if self._is_given_up and self._depth == 0:
            assert self.number is not None, "a signal has asked for it"
            raise StopNow(self.number)

    def hold(self) -> None:
        """From here on the step cannot be given up; each call needs its `release`."""
        self._depth += 1

    def release(self) -> None:
        """It can be again, and is if somebody asked meanwhile."""
        self.let_go()
        self._pay()

    def let_go(self) -> None:
        """The same where an error is on its way, which goes before a signal."""
        self._depth -= 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, nothing is given up."""
        self.hold()
        try:
            yield
        except BaseException:
            self.let_go()
            raise
        self.release()

    def _pay(self) -> None:
        if self._is_owed and self._depth == 0:
            self._is_owed = False
            assert self.number is not None, "a signal has asked for it"
            raise StopNow(self.number)


@contextlib.contextmanager
def stop_on_interrupt(deadline: float | None = None) -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop, the second into StopNow, the third into KeyboardInterrupt; a fourth ends the
    process. After a SIGTERM, StopNow comes by itself when `deadline` seconds have passed, if one is given.

    Outside the main thread Python delivers no signals, so nothing is installed there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    clock = None if deadline is None else _Deadline(deadline)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if clock is not None and clock.has_come:
            clock.has_come = False
            request.give_up()
            return
        if clock is not None and number == signal.SIGTERM:
            clock.start()
        if request.is_last:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
        request.hear(number)

    previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield request
    finally:
        if clock is not None:
            clock.end()
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Deadline:
    """Sends this process's main thread a SIGTERM when its time has come. A handler may `start` it at any moment: the queue is reentrant."""

    def __init__(self, seconds: float) -> None:
        self.has_come = False
        """The next signal is this one's."""
        self._seconds = seconds
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._wait, name="heron-deadline", daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._words.put("start")

    def end(self) -> None:
        """It does not come any more, nor is it on its way."""
        self._words.put("end")
        self._thread.join()

    def _wait(self) -> None:
        if self._words.get() == "end":
            return
        until = time.monotonic() + self._seconds
        with contextlib.suppress(queue.Empty):
            while self._words.get(timeout=max(0.0, until - time.monotonic())) != "end":
                pass  # it was started already
            return
        self.has_come = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
