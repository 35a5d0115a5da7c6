"""A float32 adapter beside a linear layer of 16 bits: `base + (x A') B' scaling`, without a float32 copy of x that outlives the call.

The one hard idea: x is saved as it came, which layers that read the same x share, and is widened again in the backward pass, some rows at
a time. Under autograd alone every adapted layer keeps a float32 copy of its own: for Llama-3.1-8B, 64 KiB a token in the attention of one
layer, where what queries, keys and values read and the attention's output, in 16 bits and once, are 16 KiB.

The result is rounded where PEFT rounds it: the sum is made in float32 and becomes 16 bits once; on a quantised base the adapter's part
becomes 16 bits first. Sums over rows are added in float32.

What it leaves out: adapters with dropout, and DoRA, whose lengths need the layer's output. Tested on a CPU; not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ROWS = 1024
"""Rows that are widened at a time."""


def with_low_rank(base: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float, *, rounds_first: bool = False) -> Tensor:
    """`base [..., O]` of 16 bits plus the adapter's part, in the type of `base`.

    Args:
        base: `[..., O]`, the frozen layer's output for x.
        x: `[..., K]`.
        a: `[r, K]`, float32.
        b: `[O, r]`, float32.
        scaling: of the adapter.
        rounds_first: round the adapter's part before it is added.
    """
    flat = _WithLowRank.apply(base.reshape(-1, base.shape[-1]), x.reshape(-1, x.shape[-1]), a, b, scaling, rounds_first)
    return flat.view_as(base)  # type: ignore[no-any-return]


class _WithLowRank(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, base: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float, rounds_first: bool) -> Tensor:
        y, middle = torch.empty_like(base), a.new_empty(len(x), len(a))  # [T, O], [T, r]
        for rows in _tiles(len(x)):
            torch.mm(x[rows].float(), a.T, out=middle[rows])
            part = (middle[rows] @ b.T).mul_(scaling)
            y[rows] = (part.to(base.dtype) if rounds_first else part).add_(base[rows])
        context.save_for_backward(x, middle, a, b)
        context.scaling = scaling
        return y

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients  # [T, O]
        x, middle, a, b = context.saved_tensors
        by_x = torch.empty_like(x) if context.needs_input_grad[1] else None
        by_a, by_b = torch.zeros_like(a), torch.zeros_like(b)
        for rows in _tiles(len(x)):
            wide = gradient[rows].float().mul_(context.scaling)
            by_b.addmm_(wide.T, middle[rows])
            narrow = wide @ b  # [t, r]
            by_a.addmm_(narrow.T, x[rows].float())
            if by_x is not None:
                by_x[rows] = narrow @ a
        return gradient, by_x, by_a, by_b, None, None


def _tiles(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, count, ROWS))
