"""Ctrl-C once, twice, three times."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from heron.training.interrupt import Interrupted, StopNow, stop_on_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_asks_and_second_stops(number: int) -> None:
    """Prevents: a step that is torn in the middle by the first Ctrl-C, and a loop that no second one ends."""
    with stop_on_interrupt() as stop:
        assert not stop.is_set
        os.kill(os.getpid(), number)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_what_is_held_is_given_up_behind_it() -> None:
    """Prevents: a step that is torn by the second Ctrl-C, one that is then never given up, and an end that comes twice."""
    with stop_on_interrupt() as stop:
        with pytest.raises(StopNow) as caught, stop.held():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            reached = True
        assert reached and caught.value.number == signal.SIGTERM
        with stop.held():
            pass


def test_an_error_goes_before_what_is_owed() -> None:
    """Prevents: a full disk that is reported as Ctrl-C."""
    with stop_on_interrupt() as stop, pytest.raises(OSError, match="full"), stop.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("full")


def test_the_third_waits_for_nothing() -> None:
    """Prevents: a process that is stuck where signals are held back."""
    with stop_on_interrupt() as stop, pytest.raises(Interrupted) as caught, stop.held():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(caught.value, StopNow)


@pytest.mark.parametrize(("number", "comes"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_deadline(number: int, comes: bool) -> None:
    """Prevents: a SIGTERM whose step goes on for hours, and a deadline for those who sit before the screen."""
    threads = threading.active_count()
    with contextlib.suppress(StopNow), stop_on_interrupt(0.1):
        os.kill(os.getpid(), number)
        begun = time.monotonic()
        time.sleep(0.7)
        assert not comes
    assert (time.monotonic() - begun < 0.5) == comes
    time.sleep(0.1)
    assert threading.active_count() == threads, "a thread stays"


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
