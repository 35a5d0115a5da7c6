"""The benchmark of the memory plan: what its bar says, and what its cases are."""

from __future__ import annotations

import pytest

from benchmarks.memory_plan import PHASES, Outcome, bar, table
from benchmarks.memory_plan_cases import CASES, Case
from heron.memory import Plan, Row


def outcome(name: str, planned: int, measured: int) -> Outcome:
    rows = tuple(Row(name="thing", bytes=planned * 2**20, phase=phase, note="", place="host") for phase in PHASES)
    return Outcome(
        case=Case(name=name), planned=Plan(rows=rows, parameters=1, trainable_parameters=1, is_exact=True, device="host"),
        measured=dict.fromkeys(PHASES, measured * 2**20),
    )


@pytest.mark.parametrize(("planned", "is_met"), [(109, True), (111, False), (91, True), (89, False)])
def test_the_bar_is_the_worst_peak_in_either_direction(planned: int, is_met: bool) -> None:
    """Prevents: a plan that is far too small, or one bad configuration among good ones, passing."""
    found = [outcome("good", 100, 100), outcome("other", planned, 100)]
    assert bar(found).met is is_met and f"{planned - 100:+d}.0 %" in bar(found).figure
    assert table(found).rows[1] == ("other", "0 M", *[f"{planned} / 100"] * 3, f"{planned - 100:+d}.0 %")


def test_the_cases_cover_what_was_asked() -> None:
    """Prevents: a bar that is met because everything is alike."""
    assert len(CASES) >= 12 and len({case.name for case in CASES}) == len(CASES)
    assert {case.model.get("method", "full") for case in CASES} == {"full", "lora", "qlora"}
    assert len({case.shape.vocabulary for case in CASES}) >= 3 and len({case.siblings for case in CASES}) >= 3
    assert 2 <= sum(case.is_quick for case in CASES) <= 5
