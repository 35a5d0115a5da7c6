"""The table and the bar of the log-prob benchmark, from made-up measurements. Nothing is timed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import logprobs, logprobs_measure, logprobs_sides
from benchmarks.logprobs import QUICK, Check
from benchmarks.logprobs_measure import Errors


def check(figure: float, goal: float = 0.42, label: str = "C1 bf16") -> Check:
    return Check(label=label, what="time", figure=figure, goal=goal, behind="1 s, 2 s")


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the machine would say; a test may change it."""
    told: dict[str, Any] = {
        "seconds": {"heron": 1.0, "heron with entropy": 1.1, "full logits": 4.0, "liger": 5.0, "trl": 10.0},
        "megabytes": 50.0, "error": Errors(logprob=1e-5, gradient=1e-6, highest=-1e-9), "asked": [],
    }

    def seconds(case: Any, names: list[str], *, rounds: int) -> dict[str, float]:
        told["asked"].append((case, tuple(names)))
        return {name: told["seconds"][name] for name in names}

    monkeypatch.setattr(logprobs, "least_seconds", seconds)
    monkeypatch.setattr(logprobs, "extra_megabytes", lambda case, name: told["megabytes"])
    monkeypatch.setattr(logprobs, "errors", lambda case, names: dict.fromkeys(names, told["error"]))
    monkeypatch.setattr(logprobs, "is_here", lambda name: True)
    return told


def verdicts() -> dict[str, str]:
    return {made.label: made.cells()[4] for made in logprobs._checks(QUICK) if made.cells()[4]}


BARS = {"C1 bf16", "C1 fp32", "C2 bf16", "C2 fp32", "C3 liger", "C3 trl", "C4 time", "C4 bf16", "C4 fp32",
        "C5 logp", "C5 grad", "C5 bf16", "C5 sign", "C6"}


def test_every_bar_is_asked(measurements: dict[str, Any]) -> None:
    """Prevents: a bar that drops out of the table, after which all of them are held."""
    assert set(verdicts()) == BARS
    assert set(verdicts().values()) == {"met"}


@pytest.mark.parametrize(
    ("name", "value", "missed"),
    [
        ("full logits", 2.3, {"C1 bf16"}),
        ("full logits", 1.6, {"C1 bf16", "C1 fp32"}),
        ("full logits", 1.3, {"C1 bf16", "C1 fp32", "C4 time"}),
        ("liger", 2.4, {"C3 liger"}),
        ("trl", 6.0, {"C3 trl"}),
        ("heron with entropy", 1.19, {"C6"}),
    ],
)
def test_each_time_has_its_own_goal(measurements: dict[str, Any], name: str, value: float, missed: set[str]) -> None:
    """Prevents: ratios that are upside down, or held against another peer's goal."""
    measurements["seconds"][name] = value
    assert {label for label, verdict in verdicts().items() if verdict == "missed"} == missed


@pytest.mark.parametrize(("megabytes", "missed"), [(97.0, {"C2 bf16"}), (161.0, {"C2 bf16", "C2 fp32"})])
def test_memory_goals(measurements: dict[str, Any], megabytes: float, missed: set[str]) -> None:
    """Prevents: the larger buffer of float32 allowed to bfloat16."""
    measurements["megabytes"] = megabytes
    assert {label for label, verdict in verdicts().items() if verdict == "missed"} == missed


def test_a_trained_head_may_take_its_gradient_and_300_megabytes(measurements: dict[str, Any]) -> None:
    goals = {made.label: made.goal for made in logprobs._checks(QUICK)}
    assert goals["C4 bf16"] == goals["C4 fp32"] == 4 * 128_256 * 1024 / 2**20 + 300


def test_a_log_prob_above_zero_misses(measurements: dict[str, Any]) -> None:
    """Prevents: a sign that is rounded away in the comparison."""
    measurements["error"] = Errors(logprob=1e-5, gradient=1e-6, highest=1e-9)
    assert {label for label, verdict in verdicts().items() if verdict == "missed"} == {"C5 sign"}


def test_errors_have_goals(measurements: dict[str, Any]) -> None:
    measurements["error"] = Errors(logprob=1.1e-4, gradient=1.1e-5, highest=0.0)
    assert {label for label, verdict in verdicts().items() if verdict == "missed"} == {"C5 logp", "C5 grad"}


def test_a_peer_that_is_not_here_misses_its_bar(measurements: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a comparison with nobody that passes, and one that crashes."""
    monkeypatch.setattr(logprobs, "is_here", lambda name: name != "liger")
    assert {label: verdict for label, verdict in verdicts().items() if verdict != "met"} == {"C3 liger": "absent"}
    assert all("liger" not in names for _, names in measurements["asked"])


def test_bar_counts_and_names_what_was_missed() -> None:
    """Prevents: a bar of many figures that hides the one that failed; and figures without a goal that count."""
    told = logprobs.bar([check(0.40), check(0.43, label="C1 fp32"), check(9.0, math.inf, label="flat")])
    assert told.line() == "bar logprobs: missed, 1 of 2 held, missed: C1 fp32 0.43x (goal all of them)"
    assert told.exit_code == 1
    assert logprobs.bar([check(0.40), check(9.0, math.inf, label="flat")]).line() == "bar logprobs: met, 1 of 1 held (goal all of them)"
    assert not logprobs.bar([check(math.nan)]).met


def test_row_shows_figure_goal_and_verdict() -> None:
    table = logprobs.table([check(0.4), check(0.5), check(math.nan), check(60.0, math.inf)], QUICK)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert rows[0] == {
        "bar": "C1 bf16", "what": "time", "Heron": "0.40x", "goal": "<= 0.42x", "verdict": "met", "measured": "1 s, 2 s",
    }
    assert [row["verdict"] for row in rows[1:]] == ["missed", "absent", ""]
    assert rows[3]["goal"] == ""


@pytest.mark.parametrize(("value", "text"), [(0.416, "0.42"), (60.4, "60"), (4.2e-6, "4.2e-06"), (0.0, "0.00"), (-3e-9, "-3.0e-09")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert logprobs._number(value) == text


def test_sides_take_turns_and_the_fastest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: one side that is measured while the machine is busy, and one slow round that decides."""
    order: list[str] = []
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0])  # 5, 2 in the first round; 1, 3 in the second
    monkeypatch.setattr(logprobs_measure, "side", lambda name: lambda *_: order.append(name))
    monkeypatch.setattr(logprobs_sides.Inputs, "run", lambda self, side: side())
    monkeypatch.setattr(logprobs_measure.time, "process_time", lambda: next(clock))
    case = logprobs_sides.Case(tokens=2, vocabulary=3, width=4)
    assert logprobs_measure.least_seconds(case, ["a", "b"], rounds=2) == {"a": 1.0, "b": 2.0}
    assert order == ["a", "b"] * 3, "the first turn warms up and is not counted"


@pytest.mark.parametrize("name", [*logprobs_sides.SIDES])
def test_all_sides_compute_the_same(name: str) -> None:
    """Prevents: a peer that is measured while it computes something else."""
    if not logprobs_sides.is_here(name):
        pytest.skip(f"{logprobs_sides.PACKAGES[name]} is not installed")
    inputs = logprobs_sides.Inputs.of(logprobs_sides.Case(tokens=9, vocabulary=50, width=8, dtype="float32", is_trained=True))
    expected = logprobs_sides.Inputs.of(logprobs_sides.Case(tokens=9, vocabulary=50, width=8, dtype="float32", is_trained=True))
    torch.testing.assert_close(inputs.run(logprobs_sides.side(name)), expected.run(logprobs_sides.full_logits))
    torch.testing.assert_close((inputs.hidden.grad, inputs.head.grad), (expected.hidden.grad, expected.head.grad))


def test_memory_comes_from_a_process_of_its_own() -> None:
    """Prevents: a peak that reads 0, or that misses what a call allocates."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks can be measured on Linux only")
    case = logprobs_sides.Case(tokens=256, vocabulary=32_768, width=8, dtype="float32")
    logits = case.tokens * case.vocabulary * 4 / 2**20  # 32 MB
    assert logprobs_measure.extra_megabytes(case, "full logits") > 2 * logits


def test_arguments() -> None:
    options = logprobs.parser().parse_args(["--quick"])
    assert (options.quick, options.write) == (True, False)
    with pytest.raises(SystemExit):
        logprobs.parser().parse_args(["--qick"])
