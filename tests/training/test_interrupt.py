"""Ctrl-C once and twice."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from heron.training.interrupt import stop_on_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_asks_and_second_stops(number: int) -> None:
    """Prevents: a step that is torn in the middle by the first Ctrl-C, and a loop that no second one ends."""
    with stop_on_interrupt() as stop:
        assert not stop.is_set
        os.kill(os.getpid(), number)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("fails", [True, False])
def test_handlers_are_given_back(fails: bool) -> None:
    """Prevents: a notebook in which Ctrl-C no longer works after a training."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        with stop_on_interrupt():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_works_in_a_thread() -> None:
    """Signal handlers can be set in the main thread only; training elsewhere must not fail for it."""
    seen: list[bool] = []

    def inside() -> None:
        with stop_on_interrupt() as stop:
            seen.append(stop.is_set)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [False]
