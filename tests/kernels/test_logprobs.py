"""`selected_logprobs` against `log_softmax` on the full logits: values, gradients, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heron.kernels import logprobs
from heron.kernels.logprobs import selected_logprobs

N, D, V = 13, 6, 37


def naive(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, scale: float, softcap: float | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """The reference holds everything."""
    z = hidden @ head.T
    z = (z if bias is None else z + bias) * scale
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    logp = (z / temperature).log_softmax(-1)
    return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def inputs(dtype: torch.dtype, *, with_bias: bool, size: tuple[int, int, int] = (N, D, V)) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    n, d, v = size
    hidden = torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    head = torch.randn(v, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(v, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() if with_bias else None
    return hidden, head, torch.randint(v, (n,), generator=generator), bias


SETTINGS = [
    {"scale": 1.0, "softcap": None, "temperature": 1.0},
    {"scale": 0.25, "softcap": None, "temperature": 1.0},
    {"scale": 1.0, "softcap": None, "temperature": 0.6},
    {"scale": 1.0, "softcap": 2.0, "temperature": 1.0},
    {"scale": 1.7, "softcap": 3.0, "temperature": 0.8},
]


@pytest.mark.parametrize("chunk_rows", [1, 4, 5, N, 100])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_values_and_gradients(settings: dict[str, Any], with_bias: bool, chunk_rows: int) -> None:
    """Prevents: a scale, cap, bias or temperature that one of forward and backward forgets, and a chunk border that loses rows."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=with_bias)
    upstream = torch.linspace(-1, 2, N, dtype=torch.float64)
    expected, expected_entropy = naive(hidden, head, targets, bias, **settings)
    wanted = torch.autograd.grad((expected * upstream).sum(), [x for x in (hidden, head, bias) if x is not None])
    logp, entropy = selected_logprobs(hidden, head, targets, bias=bias, chunk_bytes=4 * V * chunk_rows, **settings)
    found = torch.autograd.grad((logp * upstream).sum(), [x for x in (hidden, head, bias) if x is not None])
    torch.testing.assert_close(logp, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradcheck(settings: dict[str, Any]) -> None:
    """Prevents: a hand-written backward pass that only agrees with itself."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True, size=(5, 3, 7))
    torch.autograd.gradcheck(
        lambda h, w, b: selected_logprobs(h, w, targets, bias=b, chunk_bytes=4 * 7 * 2, **settings)[0], (hidden, head, bias)
    )


@pytest.mark.parametrize("wanting", [(True, False), (False, True), (True, True)])
def test_gradient_only_where_it_is_wanted(wanting: tuple[bool, bool]) -> None:
    """A frozen head (LoRA) gets no gradient, and none is computed for it."""
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    hidden.requires_grad_(wanting[0])
    head.requires_grad_(wanting[1])
    selected_logprobs(hidden, head, targets)[0].sum().backward()
    assert (hidden.grad is not None, head.grad is not None) == wanting


def test_entropy_carries_no_gradient() -> None:
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    assert not selected_logprobs(hidden, head, targets)[1].requires_grad


def test_no_tokens() -> None:
    """A micro-batch without trained tokens must not crash."""
    hidden, head, _, _ = inputs(torch.float32, with_bias=False)
    logp, entropy = selected_logprobs(hidden[:0], head, torch.empty(0, dtype=torch.int64))
    assert logp.shape == entropy.shape == (0,)
    logp.sum().backward()
    assert head.grad is not None
    assert not head.grad.any()


def test_extreme_logits_stay_finite() -> None:
    """Prevents: overflow in a softmax without its maximum taken out, and 0 * inf in the entropy."""
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    head = torch.tensor([[1.0], [-1.0], [0.5]])
    logp, entropy = selected_logprobs(hidden, head, torch.tensor([1, 1]))
    logp.sum().backward()
    assert torch.isfinite(logp).all()
    assert torch.isfinite(entropy).all()
    assert torch.isfinite(hidden.grad).all()
    assert logp.tolist() == [-600.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_inputs_accumulate_in_float32(dtype: torch.dtype) -> None:
    """Prevents: log-probs, or the head's gradient over many chunks, summed up in 8 bits of mantissa."""
    hidden, head, targets, _ = inputs(dtype, with_bias=False, size=(400, 8, 50))
    logp, entropy = selected_logprobs(hidden, head, targets, chunk_bytes=4 * 50)
    assert logp.dtype == entropy.dtype == torch.float32
    logp.sum().backward()
    assert hidden.grad.dtype == head.grad.dtype == dtype
    wide_hidden, wide_head = (x.detach().double().requires_grad_() for x in (hidden, head))
    naive(wide_hidden, wide_head, targets, None, 1.0, None, 1.0)[0].sum().backward()
    for ours, theirs in ((head.grad, wide_head.grad), (hidden.grad, wide_hidden.grad)):
        assert float((ours.double() - theirs).norm() / theirs.norm()) < 2e-2


class Sizes(TorchFunctionMode):
    """Remembers the size of every tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.made += [value.numel() for value in (result if isinstance(result, tuple | list) else [result]) if isinstance(value, Tensor)]
        return result


def test_nothing_of_size_n_times_v_is_kept_or_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for this kernel: with 128k words and 8k tokens the logits alone would take 4 GiB."""
    n, d, v, rows = 400, 8, 1000, 10
    hidden, head, targets, bias = inputs(torch.float32, with_bias=True, size=(n, d, v))
    kept: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    sizes, backward = Sizes(), logprobs._SelectedLogprobs.backward

    def watched(*arguments: Any) -> Any:
        with sizes:  # autograd calls this from C++, where an outer mode does not reach
            sizes.made.clear()
            return backward(*arguments)

    monkeypatch.setattr(logprobs._SelectedLogprobs, "backward", staticmethod(watched))
    with sizes, torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        logp, _ = selected_logprobs(hidden, head, targets, bias=bias, softcap=5.0, temperature=0.7, chunk_bytes=4 * v * rows)
    assert max(sizes.made) == v * rows, "no temporary of the forward pass is larger than a chunk"
    assert max(kept) <= v * d, "what is kept for the backward pass is the inputs and vectors"
    assert sum(kept) < n * v / 10
    logp.sum().backward()
    assert max(sizes.made) == v * rows, "nor any of the backward pass"


def test_default_chunk_covers_a_word_list_larger_than_the_budget() -> None:
    """One row of logits above the budget still makes chunks of one row, not of none."""
    hidden, head, targets, _ = inputs(torch.float64, with_bias=False)
    logp, _ = selected_logprobs(hidden, head, targets, chunk_bytes=1)
    torch.testing.assert_close(logp, naive(hidden, head, targets, None, 1.0, None, 1.0)[0])
