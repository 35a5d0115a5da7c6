"""Norms, rotations of heads and gated activations with gradients: one pass forward, by `rows.c`, one backward, by `gradients.c`.

The one hard idea: what is saved is what came in. Roots and activations are cheaper computed again than read, so the backward pass of
each function reads its inputs and the incoming gradient and writes the outgoing ones. Sums do not depend on the number of threads.

What it leaves out: gradients of gradients, of angles, and of more than one type in a call; its caller sees to that.

Forward and backward, one thread of an AMD EPYC (AVX-512), 4032 tokens, in ms beside the modules of transformers under autograd:

               norm of 384   norms of 6 x 64   rotations of 6 x 64   SiLU gate of 960   GELU gate of 960
    float32    1.7 / 6.9      1.9 / 11.0        1.4 / 7.4             5.6 / 14.4         5.6 / 28.3
    bfloat16   1.7 / 7.9      2.5 / 12.6        1.9 / 5.3             7.3 / 12.0        11.6 / 26.9

Besides what is saved and what comes out, a norm takes 1/64 of its rows, in float32, while its backward pass runs.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from heron.kernels.host.build import built
from heron.kernels.host.rows import Gate, rms_norm, rotate
from heron.kernels.host.rows import gated as plainly_gated

ROWS = 64
"""Of a norm that have one sum of the weight's gradient: `ROWS` of gradients.c."""


def normed(x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
    """Rows `[..., D]` over the root of their mean square, times `weight [D]`; `plus_one`: times 1 + weight."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Normed.apply(x, weight, eps, plus_one)
    return rms_norm(x.contiguous(), weight.contiguous(), eps, plus_one)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads `[B, H, T, d]`, each turned by the angles of its position, `[B or 1, T, r]` or `[B or 1, 1, T, r]`: the halves of its first r
    numbers. In memory the result is `[B, T, H, d]`, and so should x be, as it is where heads are a view of a linear layer's output."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotated.apply(x, *_angles(x, cos, sin))
    return _turned(x, *_angles(x, cos, sin))


def gated(gate: Tensor, up: Tensor, kind: Gate) -> Tensor:
    """act(gate) * up, number by number."""
    if torch.is_grad_enabled() and (gate.requires_grad or up.requires_grad):
        return _Gated.apply(gate, up, kind)
    return plainly_gated(gate.contiguous(), up.contiguous(), kind)


class _Normed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps, ctx.plus_one = eps, plus_one
        return rms_norm(x, weight, eps, plus_one)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy, dx, width = dy.contiguous(), torch.empty_like(x), weight.numel()
        rows = x.numel() // width
        sums = torch.empty(max(1, -(-rows // ROWS)), width) if ctx.needs_input_grad[1] else None  # [blocks, D], float32
        _library().heron_rms_norm_gradient(
            x.data_ptr(), weight.data_ptr(), dy.data_ptr(), dx.data_ptr(), None if sums is None else sums.data_ptr(),
            rows, width, ctx.eps, ctx.plus_one, x.dtype is torch.bfloat16,
        )
        return dx, None if sums is None else sums[0].to(weight.dtype, copy=True), None, None


class _Rotated(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        dy = dy if dy.stride(-1) == 1 else dy.contiguous()
        batch, heads, length, width = dy.shape
        dx = torch.empty(batch, length, heads, width, dtype=dy.dtype)
        _library().heron_rotate_gradient(
            dy.data_ptr(), cos.data_ptr(), sin.data_ptr(), dx.data_ptr(), batch, length, heads, width, cos.shape[-1],
            dy.stride(0), dy.stride(2), dy.stride(1), dy.dtype is torch.bfloat16,
        )
        return dx.transpose(1, 2), None, None


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kind: Gate) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.kind = kind
        return plainly_gated(gate, up, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dy, dgate, dup = dy.contiguous(), torch.empty_like(gate), torch.empty_like(up)
        _library().heron_gated_gradient(
            gate.data_ptr(), up.data_ptr(), dy.data_ptr(), dgate.data_ptr(), dup.data_ptr(),
            gate.numel(), ctx.kind == "gelu_tanh", gate.dtype is torch.bfloat16,
        )
        return dgate, dup, None


def _angles(x: Tensor, *angles: Tensor) -> list[Tensor]:
    """Of each row of the batch, contiguous, with the numbers of `[B, T, r]`."""
    assert not any(angle.requires_grad for angle in angles), "there is no gradient by the angles"
    batch, _, length, _ = x.shape
    return [
        angle if len(angle) == batch and angle.is_contiguous()
        else (angle if angle.ndim == 3 else angle.squeeze(1)).expand(batch, length, -1).contiguous()
        for angle in angles
    ]


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, heads, length, width = x.shape
    by_position = x.transpose(1, 2).contiguous()  # [B, T, H, d]
    return rotate(by_position.view(-1, heads, width), cos, sin).view(batch, length, heads, width).transpose(1, 2)


@functools.cache
def _library() -> ctypes.CDLL:
    library = built().code
    assert library is not None, "there are no compiled kernels"
    pointer, count, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
    library.heron_rms_norm_gradient.argtypes = (*5 * (pointer,), count, count, ctypes.c_float, flag, flag)
    library.heron_rotate_gradient.argtypes = (*4 * (pointer,), *8 * (count,), flag)
    library.heron_gated_gradient.argtypes = (*5 * (pointer,), count, flag, flag)
    for function in (library.heron_rms_norm_gradient, library.heron_rotate_gradient, library.heron_gated_gradient):
        function.restype = None
    return library
