"""Linear layers of 8-bit weights, as sampler and trainer agree on them.

The hard idea: bitsandbytes multiplies 8-bit weights with activations that it rounds to 8 bits too, on a CPU in evaluation mode alone. What
a token gets would then depend on who asks. Here the weights alone have 8 bits: each row is its codes times one scale, so the product is
`(x @ codes.T) * scales`, in the type of `x`, the same for everybody and exact in the codes.

What it leaves out: the integer units of a GPU. A layer's codes are widened for each product, and again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import Tensor
from torch.nn.functional import linear

STEPS = 127
"""Largest code: a row's scale is its largest weight divided by it."""


class Int8Linear(Linear8bitLt):
    """A layer of bitsandbytes that leaves activations alone; a subclass, since PEFT knows layers by their class."""

    @classmethod
    def adopt(cls, layer: Linear8bitLt) -> None:
        """Make a loaded layer one of this class."""
        layer.init_8bit_state()
        layer.__class__ = cls

    def forward(self, x: Tensor) -> Tensor:
        assert self.state.SCB is not None, "adopted after it was loaded"
        y = _Product.apply(x, self.weight.data, self.state.SCB / STEPS)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """`(x @ codes.T) * scales` of `x [..., K]`, `codes [O, K]` and `scales [O]`. The widened codes are not kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(codes, scales)
        return linear(x, codes.to(x.dtype)) * scales.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        codes, scales = ctx.saved_tensors
        return (gradient * scales.to(gradient.dtype)) @ codes.to(gradient.dtype), None, None
