"""A trained head whose gradient is foreseen: the same log-probs and gradients, from one pass; and what happens if it was not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_logprobs import SETTINGS, D, N, V, distance, inputs, naive

from heron.kernels import logprobs, logprobs_at_once
from heron.kernels.logprobs import selected_logprobs

UPSTREAM = torch.linspace(-1, 2, N, dtype=torch.float64)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several slices of tokens, the last one short, and several of words."""
    monkeypatch.setattr(logprobs_at_once, "LEAST_ROWS", 5)
    monkeypatch.setattr(logprobs_at_once, "SLICE_WORDS", 8)


def gradients(entropy_weight: float = 0.0, *, foreseen: torch.Tensor | None, upstream: torch.Tensor = UPSTREAM, **settings: Any) -> list:
    """Log-probs, entropies, and the gradients of hidden, head and bias."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True)
    found = selected_logprobs(
        hidden, head, targets, bias=bias, entropy=True, tile_bytes=4 * V * 2, expected_gradient=foreseen, **settings
    )
    assert found[1] is not None
    loss = found[0] @ upstream
    loss = loss + entropy_weight * found[1].sum() if entropy_weight else loss
    return [found[0], found[1], *torch.autograd.grad(loss, (hidden, head, bias))]


@pytest.mark.parametrize("settings", SETTINGS)
def test_foreseen_gradients_are_the_naive_ones(few_rows: None, settings: dict[str, Any]) -> None:
    """Prevents: a scale, cap, bias or target that the short way forgets, and a slice's border that loses tokens or words."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True)
    expected = naive(hidden, head, targets, bias, **settings)
    wanted = [*expected, *torch.autograd.grad(expected[0] @ UPSTREAM, (hidden, head, bias))]
    for ours, theirs in zip(gradients(foreseen=UPSTREAM, **settings), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", ["another gradient", "an entropy"])
def test_what_was_not_foreseen_is_computed(few_rows: None, case: str) -> None:
    """Prevents: a gradient that follows the forecast instead of the loss."""
    weight, upstream = (0.3, UPSTREAM) if case == "an entropy" else (0.0, UPSTREAM * 2)
    for ours, theirs in zip(
        gradients(weight, foreseen=UPSTREAM, upstream=upstream), gradients(weight, foreseen=None, upstream=upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_forecast_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a fourth product all the same. A frozen head, and a pass without gradient, do not take this way."""
    calls: list[str] = []
    once, again = logprobs.gradients_at_once, logprobs.TilesAgain
    monkeypatch.setattr(logprobs, "gradients_at_once", lambda *a, **k: calls.append("at once") or once(*a, **k))
    monkeypatch.setattr(logprobs, "TilesAgain", lambda **k: calls.append("again") or again(**k))
    gradients(foreseen=UPSTREAM)
    assert calls == ["at once"]
    hidden, head, targets, _ = inputs(torch.float64, with_bias=False)
    selected_logprobs(hidden, head.detach(), targets, expected_gradient=UPSTREAM)[0].sum().backward()
    with torch.no_grad():
        selected_logprobs(hidden, head, targets, expected_gradient=UPSTREAM)
    assert calls == ["at once"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_heads_accumulate_in_float32(few_rows: None, dtype: torch.dtype) -> None:
    """Prevents: the head's gradient over many slices, summed up in 8 bits of mantissa."""
    hidden, head, targets, _ = inputs(dtype, with_bias=False, size=(400, 8, 50))
    foreseen = torch.ones(400)
    selected_logprobs(hidden, head, targets, expected_gradient=foreseen)[0].sum().backward()
    assert hidden.grad is not None and head.grad is not None and hidden.grad.dtype == head.grad.dtype == dtype
    wide_hidden, wide_head = (x.detach().double().requires_grad_() for x in (hidden, head))
    naive(wide_hidden, wide_head, targets)[0].sum().backward()
    for ours, theirs in ((head.grad, wide_head.grad), (hidden.grad, wide_hidden.grad)):
        assert distance(ours, theirs) < 2e-2


def test_sizes_of_the_shared_inputs() -> None:
    """Guards the fixture above: there are several slices of both kinds."""
    assert N > 2 * 5 and V > 2 * 8 and D > 1
