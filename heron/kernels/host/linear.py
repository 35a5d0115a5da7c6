"""A linear layer on few rows: `x @ W.T + bias` by `linear.c`, where MKL and oneDNN are slower than memory allows.

The one hard idea is in the C file. The weights stay where they are: an update in place is seen by the next call, and so is a parameter that
was given other memory, or another type.

What it leaves out: gradients, and more than `MOST_ROWS` rows, which are torch's.

One thread of an AMD EPYC (AVX-512 with bfloat16), weights from memory, in us beside those of `F.linear`:

    weight         rows    float32        bfloat16
    [960, 384]        1     88 /  203      47 /  193
                      8    114 /  416      61 /  288
                     64    613 /  649     316 /  338
    [3072, 1024]      1    591 /  878     311 /  745
                      8    951 / 3175     364 / 1558
                     64   5171 / 5880    2237 / 2498

A call on nothing takes 3.5 us, `F.linear` 1.9.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor
from torch.nn.functional import linear

from heron.kernels.host.build import built

MOST_ROWS = 128
"""More rows are torch's: at 128 both take about the same time, at 256 torch is up to a fifth faster in bfloat16."""


class Linear:
    """A layer's weight `[O, K]` and bias `[O]`, to be called with `[..., K]`. Where gradients are recorded, it is torch's."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        assert takes(weight, bias), "ask `takes` first"
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., O]`, of the type of x, which is the weight's."""
        weight, bias = self.weight, self.bias
        columns, width = weight.shape
        *outer, inner = x.shape
        rows = x.numel() // width
        if rows > MOST_ROWS or torch.is_grad_enabled() or not weight.is_contiguous():
            return linear(x, weight, bias)
        assert inner == width and x.dtype is weight.dtype, f"{x.dtype} {list(x.shape)} for a weight {weight.dtype} {list(weight.shape)}"
        x = x.contiguous()
        y = x.new_empty((*outer, columns))  # [..., O]
        at = None if bias is None else bias.data_ptr()
        _function()(x.data_ptr(), weight.data_ptr(), at, y.data_ptr(), rows, width, columns, x.dtype is torch.bfloat16)
        return y


def takes(weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether a `Linear` can be made of them."""
    tensors = (weight,) if bias is None else (weight, bias)
    return built().code is not None and weight.dim() == 2 and weight.numel() > 0 and all(
        tensor.device.type == "cpu" and tensor.dtype is weight.dtype and tensor.dtype in (torch.float32, torch.bfloat16)
        and tensor.layout is torch.strided and tensor.is_contiguous()
        for tensor in tensors
    ) and (bias is None or bias.shape == weight.shape[:1])


@functools.cache
def _function() -> ctypes._NamedFuncPointer:
    library = built().code
    assert library is not None, "ask `takes` first"
    function = library.heron_linear
    pointer, count = ctypes.c_void_p, ctypes.c_long
    function.argtypes = (pointer, pointer, pointer, pointer, count, count, count, ctypes.c_int)
    function.restype = None
    return function
