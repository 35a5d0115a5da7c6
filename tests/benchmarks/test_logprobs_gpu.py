"""The table and the bar of the GPU's log-prob benchmark, from made-up measurements, and what it says without a GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import logprobs_gpu
from benchmarks.logprobs_gpu import Measured
from benchmarks.logprobs_sides import Case

CASE = Case(tokens=163_840, vocabulary=128_256, width=4096)
GRADIENT = 163_840 * 4096 * 2 / 1e9


def measured(seconds: float | None, gigabytes: float | None) -> Measured:
    return Measured(case=CASE, side="heron", seconds=seconds, gigabytes=gigabytes)


def test_without_a_gpu_it_says_so_and_succeeds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a crash on a laptop, and a bar about nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert logprobs_gpu.main(["--quick"]) == 0
    assert capsys.readouterr().out == "no GPU here: nothing is measured\n"


def test_share_is_of_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a side that looks faster because its extra products count as work."""
    rate = 4.0 * CASE.tokens * CASE.vocabulary * CASE.width  # both products in one second
    assert measured(2.0, 1.5).cells(rate) == ("heron", "163840", "128256", "2000", "50 %", "1.50")
    assert measured(None, None).cells(rate)[3:] == ("does not fit", "", "")


@pytest.mark.parametrize(
    ("seconds", "beside", "met"), [(0.6, 0.5, True), (0.7, 0.5, False), (0.6, 0.6, False)]
)
def test_bar_holds_time_and_memory_beside_the_gradient(seconds: float, beside: float, met: bool) -> None:
    """Prevents: memory that is charged for the gradient itself, which nobody can avoid."""
    assert logprobs_gpu.bar(measured(seconds, GRADIENT + beside)).met is met
    assert not logprobs_gpu.bar(measured(None, None)).met


def test_the_bar_is_asked_of_the_first_shape() -> None:
    """Prevents: measuring the small shapes first and holding the bar on one of them."""
    assert (logprobs_gpu.TOKENS[0], logprobs_gpu.VOCABULARIES[0], logprobs_gpu.SIDES[0]) == (163_840, 128_256, "heron")
    assert logprobs_gpu.TOKENS[0] == max(logprobs_gpu.TOKENS)
