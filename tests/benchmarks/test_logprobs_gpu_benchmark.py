"""What the GPU's log-prob benchmark says without a GPU, and how it counts work."""

from __future__ import annotations

import pytest
import torch

from benchmarks import logprobs_gpu
from benchmarks.logprobs_gpu import Run
from benchmarks.logprobs_sides import Case, full_logits

CASE = Case(tokens=163_840, vocabulary=128_256, width=4096)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with 139 GiB free, on which everything takes two seconds."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (139 * 2**30, 141 * 2**30))
    monkeypatch.setattr(logprobs_gpu, "measure", lambda case, run_side: Run(seconds=2.0, peak=1.5))


def test_without_a_gpu_it_says_so_and_succeeds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a crash on a laptop, and a bar about nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert logprobs_gpu.main(["--quick"]) == 0
    assert capsys.readouterr().out.startswith("no GPU here")


def test_share_is_of_two_products(gpu: None) -> None:
    """Prevents: a side that looks faster because its extra products count as work."""
    rate = 4.0 * CASE.tokens * CASE.vocabulary * CASE.width  # both products in one second
    row = logprobs_gpu._row(CASE, "liger", full_logits, rate)
    assert row == ("liger", "163840", "128256", "2.000", "50%", "1.50")


def test_full_logits_that_do_not_fit_are_computed(gpu: None) -> None:
    """Prevents: a benchmark that ends in an out-of-memory error before it shows anything."""
    assert logprobs_gpu._row(CASE, "full logits", full_logits, 1.0)[3:] == ("does not fit", "-", "313 (computed)")
