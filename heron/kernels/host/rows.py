"""Norms, rotations of heads and gated activations of a few rows: one call of `rows.c` each, where torch takes two to ten.

The one hard idea: numbers are rounded where the modules of transformers round them, so a decode step by these is the trainer's own forward.

What it leaves out: gradients; tensors that are not contiguous, which the caller copies or leaves to torch.

One thread of an AMD EPYC (AVX-512), width 384, 6 and 2 heads of 64, gates of 960, in us beside those of transformers and torch:

    rows    norm           rotations      gate
       1    4.4 / 15.4      8.0 / 21.6     3.7 /  2.6    float32
      64    6.9 / 22.5     11.7 / 42.3    26.7 / 36.2
       1    4.4 / 17.5      7.9 / 21.7     4.0 /  2.8    bfloat16
      64   12.0 / 32.1     18.6 / 49.1    46.5 / 46.0
"""

from __future__ import annotations

import ctypes
import functools
from typing import Literal

import torch
from torch import Tensor

from heron.kernels.host.build import built

Gate = Literal["silu", "gelu_tanh"]


def rms_norm(x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
    """Rows `[..., D]` over the root of their mean square, in the type of x, times `weight`; `plus_one`: times 1 + weight, rounded once."""
    y = torch.empty_like(x)
    width = weight.numel()
    assert x.shape[-1] == width and x.dtype is weight.dtype and x.is_contiguous(), f"{x.dtype} {list(x.shape)} for {weight.dtype} [{width}]"
    _library().heron_rms_norm(
        x.data_ptr(), weight.data_ptr(), y.data_ptr(), x.numel() // width, width, eps, plus_one, x.dtype is torch.bfloat16
    )
    return y


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads `[B, H, d]` turned by the angles of their row `[B, r]`: the halves of their first r numbers; the others stay."""
    y = torch.empty_like(x)
    batch, heads, width = x.shape
    turned = cos.shape[-1]
    assert cos.numel() == sin.numel() == batch * turned and turned <= width and turned % 2 == 0 and x.dtype is cos.dtype is sin.dtype, (
        f"angles {cos.dtype} {list(cos.shape)} and {sin.dtype} {list(sin.shape)} for heads {x.dtype} {list(x.shape)}"
    )
    assert x.is_contiguous() and cos.is_contiguous() and sin.is_contiguous(), "not contiguous"
    _library().heron_rotate(
        x.data_ptr(), cos.data_ptr(), sin.data_ptr(), y.data_ptr(), batch, heads, width, turned, x.dtype is torch.bfloat16
    )
    return y


def gated(gate: Tensor, up: Tensor, kind: Gate) -> Tensor:
    """act(gate) * up, number by number."""
    y = torch.empty_like(gate)
    assert gate.shape == up.shape and kind in ("silu", "gelu_tanh") and gate.dtype is up.dtype, (
        f"a {kind} gate {gate.dtype} {list(gate.shape)} for {up.dtype} {list(up.shape)}"
    )
    assert gate.is_contiguous() and up.is_contiguous(), "not contiguous"
    _library().heron_gated(gate.data_ptr(), up.data_ptr(), y.data_ptr(), gate.numel(), kind == "gelu_tanh", gate.dtype is torch.bfloat16)
    return y


@functools.cache
def _library() -> ctypes.CDLL:
    library = built().code
    assert library is not None, "there are no compiled kernels"
    pointer, count, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
    library.heron_rms_norm.argtypes = (pointer, pointer, pointer, count, count, ctypes.c_float, flag, flag)
    library.heron_rotate.argtypes = (pointer, pointer, pointer, pointer, count, count, count, count, flag)
    library.heron_gated.argtypes = (pointer, pointer, pointer, count, flag, flag)
    for function in (library.heron_rms_norm, library.heron_rotate, library.heron_gated):
        function.restype = None
    return library
