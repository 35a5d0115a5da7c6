"""Ctrl-C once: finish the step, save, report. Ctrl-C twice: stop now."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody asked the loop to end after this step. The signal only sets it: a handler that did more could meet a lock."""

    def __init__(self) -> None:
        self.is_set = False
        self.is_announced = False


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop; the second raises KeyboardInterrupt.

    Outside the main thread Python delivers no signals, so nothing is installed there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if request.is_set:
            raise KeyboardInterrupt
        request.is_set = True

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
