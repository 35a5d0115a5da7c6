"""The lean adapter against autograd over PEFT's own formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heron.kernels import low_rank
from heron.kernels.low_rank import with_low_rank


def drawn(rows: int, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Base output, input, A and B."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, rows, 24), (2, rows, 16), (3, 16), (24, 3))
    base, x, a, b = (torch.randn(shape, generator=generator) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (base.to(dtype), x.to(dtype), a, b)]


def naive(base: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """As PEFT computes it."""
    return (base + (x.float() @ a.T @ b.T) * scaling).to(base.dtype)


@pytest.mark.parametrize("rows_at_once", [1, 7, 4096])
def test_values_and_gradients_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    """Prevents: a tile that is left out, a scaling that is applied twice, and gradients in another type than the tensor's."""
    monkeypatch.setattr(low_rank, "ROWS", rows_at_once)
    ours, theirs = drawn(10), drawn(10)
    y, expected = with_low_rank(*ours, 0.7), naive(*theirs, 0.7)
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=0)  # a last bit
    flow = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    y.backward(flow)
    expected.backward(flow)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None and other.grad is not None and mine.grad.dtype is mine.dtype
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-2 if mine.dtype is torch.bfloat16 else 1e-5, atol=1e-4)


def test_a_frozen_input_gets_no_gradient() -> None:
    """Prevents: a whole matrix of gradients that nobody asked for, below the first layer."""
    base, x, a, b = drawn(5)
    with_low_rank(base.detach(), x.detach(), a, b, 1.0).float().sum().backward()
    assert x.grad is None and base.grad is None and a.grad is not None and b.grad is not None


def test_layers_that_read_the_same_share_it() -> None:
    """Prevents: a copy of the input for every adapted layer, which is most of a long sequence's memory."""
    base, x, a, b = drawn(64)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = [with_low_rank(base, x, a, b, 1.0) for _ in range(3)]
    middle = 3 * 2 * 64 * 3 * 4  # [T, r] of each, float32
    assert len(outputs) == 3 and sum(kept.values()) == x.nbytes + middle + a.nbytes + b.nbytes
