"""The log-probs benchmark: that its sides do equal work, and that its bar can be missed."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from benchmarks import logprobs, logprobs_gpu, logprobs_measure
from benchmarks.logprobs import Check, bar, table
from benchmarks.logprobs_measure import Seconds
from benchmarks.logprobs_sides import SIDES, Case, Inputs, is_here, side

CASE = Case(tokens=40, vocabulary=300, width=16, dtype="float32", is_trained=True)


@pytest.mark.parametrize("name", SIDES)
def test_sides_compute_the_same(name: str) -> None:
    """Prevents: a peer that is fast because it was called wrongly."""
    if not is_here(name):
        pytest.skip(f"{name} is not installed")
    theirs, ours = Inputs.of(CASE), Inputs.of(CASE)
    torch.testing.assert_close(theirs.run(side(name)), ours.run(side("full logits")))
    torch.testing.assert_close(theirs.hidden.grad, ours.hidden.grad)
    torch.testing.assert_close(theirs.head.grad, ours.head.grad)


def test_a_case_is_the_same_each_time() -> None:
    """Prevents: sides that are compared on different numbers."""
    first, second = Inputs.of(CASE), Inputs.of(CASE)
    for field in ("hidden", "head", "targets", "upstream"):
        torch.testing.assert_close(getattr(first, field), getattr(second, field), rtol=0, atol=0)


def test_bar_is_missed_by_one_check_and_names_it() -> None:
    """Prevents: an average that hides a miss, and a peer that is absent and counts as beaten."""
    held = Check(label="C1", what="time", figure=0.3, goal=0.42)
    informs = Check(label="", what="peak", figure=12_000.0, unit=" MB")
    assert bar([held, informs]).line() == "bar logprobs: met, 1 of 1 held (goal all of them)"
    slow = Check(label="C4", what="time", figure=0.9, goal=0.72)
    absent = Check(label="C3", what="time", figure=math.nan, goal=0.4)
    made = bar([held, slow, absent, informs])
    assert not made.met
    assert made.figure == "1 of 3 held, missed: C4 0.90x, C3 nanx"
    assert [row[4] for row in table([held, slow, absent, informs], logprobs.QUICK).rows] == ["met", "missed", "absent", ""]


def test_ratio_counts_system_time_and_user_time_is_shown_beside_it() -> None:
    """Prevents: a ratio that owes itself to the price of memory on one machine, with nothing beside it that says so."""
    seconds = {"heron": Seconds(user=2.0, system=0.0), "full logits": Seconds(user=4.0, system=6.0)}
    assert logprobs._ratio("C1", CASE, seconds, "full logits", 0.4).figure == 0.2
    assert logprobs._user_alone(CASE, seconds).figure == 0.5
    assert math.isnan(logprobs._ratio("C3", CASE, seconds, "trl", 0.4).figure)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
def test_peak_of_full_logits_is_seen() -> None:
    """Prevents: a peak that is read before the call, or after its memory was given back. 600 x 40 000 float32 logits are 92 MB."""
    case = Case(tokens=600, vocabulary=40_000, width=16, dtype="float32")
    assert logprobs_measure.extra_megabytes(case, "full logits") > 180
    assert logprobs_measure.extra_megabytes(case, "heron") < 60


def test_errors_tell_a_sound_side_from_float64() -> None:
    """Prevents: errors that are 0 because a side was compared with itself."""
    found = logprobs_measure.errors(CASE, ["heron", "full logits"])
    assert 0 < found["heron"].logprob < 1e-5
    assert 0 < found["heron"].gradient < 1e-5
    assert found["heron"].highest < 0


def test_without_a_gpu_the_gpu_benchmark_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a crash, or an empty table that looks like a result."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert logprobs_gpu.main([]) == 0
    assert "no GPU here" in capsys.readouterr().out


def test_command_line_is_that_of_the_other_benchmarks() -> None:
    """Prevents: an option that the others have and this one forgot."""
    for parser in (logprobs.parser(), logprobs_gpu.parser()):
        assert parser.parse_args(["--quick", "--write"]).write
