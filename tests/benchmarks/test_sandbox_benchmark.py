"""The sandbox benchmark: every answer is checked, what was measured is what is shown, and the bar is about what `auto` takes."""

from __future__ import annotations

import pytest

from benchmarks import sandbox
from benchmarks.sandbox import PLAIN, Side


def side(name: str, per_second: float) -> Side:
    return Side(name=name, per_second=per_second, cpu_ms=10.0)


def test_bar_is_for_what_auto_takes() -> None:
    """Prevents: a goal reached by the side that holds nothing back."""
    sides = [side("bubblewrap", 39.9), side("landlock", 60.0), side(PLAIN, 90.0)]
    assert sandbox.bar(sides, "landlock").line() == "bar sandbox: met, 60.0 programs/s in landlock (goal 40)"
    assert sandbox.bar(sides, "bubblewrap").exit_code == 1


def test_best_round_counts_and_answers_are_checked() -> None:
    """Prevents: speed of programs that did not run."""
    (found,) = sandbox.measure({"fast": lambda: "42\n"}, programs=5, rounds=3)
    assert found.per_second > 100 and found.cpu_ms < 100
    with pytest.raises(AssertionError):
        sandbox.measure({"broken": lambda: ""}, programs=2, rounds=1)


def test_processes_that_end_meanwhile_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a benchmark that now and then ends with an error, since a supervisor was gone before it was counted."""
    monkeypatch.setattr(sandbox.tree, "descendants", lambda pid: [2**22 + 1])
    assert sandbox._busy_seconds() > 0


def test_every_side_that_is_here_runs() -> None:
    """Prevents: a table without the peer, or without a backend that works here."""
    sides = sandbox.sides_here()
    assert PLAIN in sides and "unsafe-rlimit" in sides
    assert {run() for run in sides.values()} == {"42\n"}
    shown = sandbox.table([side(name, 50.0) for name in sides]).text()
    assert all(name in shown for name in sides)
