"""Logits to tokens, log-probs and entropies in one call of C (`draw.c`); `kernels.sampling` decides when, and says what the results mean.

The one hard idea is in the C file. Here pointers are taken: all is checked that could make C read outside of a tensor, and nothing is
copied that lies in memory as it should. What it leaves out: float64 logits, other devices, logits whose columns do not lie side by side.

One thread of an AMD EPYC (AVX-512): 0.7 ms for 64 x 32 768, 4 ms for 64 x 151 936 (from memory), 11 us for 1 x 8192.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from heron.kernels.host.build import built

NO_MEMORY, NO_SUCH_ROW = 1, 2
"""What the functions return if they have not done their work."""


def takes(logits: Tensor, at_least: Tensor | None) -> bool:
    """Whether `sample` and `spread` can be called with these."""
    return (
        logits.dtype is torch.float32 and logits.is_cpu and logits.stride(-1) == 1 and logits.numel() > 0
        and (at_least is None or at_least.dtype is torch.float32) and built().code is not None
    )


def sample(
    logits: Tensor, uniforms: Tensor, rows: Tensor | None, *, temperature: float, at_least: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, log-probs and entropies `[S]`, as `kernels.sampling.sample`."""
    draws = uniforms.numel()
    assert draws == (logits.shape[0] if rows is None else rows.numel()), "one uniform number for each row to draw from"
    uniforms = _side_by_side(uniforms, torch.float64)
    rows = None if rows is None else _side_by_side(rows, torch.int64)
    tokens = torch.empty(draws, dtype=torch.int64)
    logprobs, entropies = torch.empty(draws, dtype=torch.float64), torch.empty(draws, dtype=torch.float64)
    function, _ = _functions()
    given, _kept = _given(logits, temperature, at_least)
    _raise_if_failed(function(
        *given, None if rows is None else rows.data_ptr(), uniforms.data_ptr(), draws, tokens.data_ptr(), logprobs.data_ptr(),
        entropies.data_ptr(),
    ), logits)
    return tokens, logprobs, entropies


def spread(logits: Tensor, *, temperature: float, at_least: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log of the total and entropy of each row, `[B]` and `[B]`, as those of `kernels.sampling.spread`."""
    _, function = _functions()
    given, _kept = _given(logits, temperature, at_least)
    log_total, entropy = torch.empty(logits.shape[0], dtype=torch.float64), torch.empty(logits.shape[0], dtype=torch.float64)
    _raise_if_failed(function(*given, log_total.data_ptr(), entropy.data_ptr()), logits)
    return log_total, entropy


Given = tuple[int, int, int, int, float, int | None]
"""The first arguments of both functions: logits, batch, vocabulary, stride of rows, temperature, at_least."""


def _given(logits: Tensor, temperature: float, at_least: Tensor | None) -> tuple[Given, Tensor | None]:
    """The arguments, and what must live as long as they are used."""
    batch, vocabulary = logits.shape
    if at_least is not None:
        assert at_least.numel() == batch, "one lowest logit for each row"
        at_least = _side_by_side(at_least, torch.float32)
    pointer = None if at_least is None else at_least.data_ptr()
    return (logits.data_ptr(), batch, vocabulary, logits.stride(0), temperature, pointer), at_least


def _side_by_side(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The same values as C reads them; nearly always the same tensor, which `to` takes a microsecond to find out."""
    return values if values.dtype is dtype and values.is_contiguous() else values.to(dtype).contiguous()


def _raise_if_failed(status: int, logits: Tensor) -> None:
    if status == NO_MEMORY:
        raise MemoryError(f"There is no memory for the sums of logits {list(logits.shape)}: sample fewer completions at once.")
    if status == NO_SUCH_ROW:
        raise IndexError(f"A row to draw from is not among the {len(logits)} rows of logits: rows are counted from 0.")


@functools.cache
def _functions() -> tuple[Callable[..., int], Callable[..., int]]:
    """`heron_sample` and `heron_spread`, which know the types of their arguments."""
    library = built().code
    assert library is not None, "takes() has said so"
    pointer, long = ctypes.c_void_p, ctypes.c_long
    given: list[Any] = [pointer, long, long, long, ctypes.c_double, pointer]
    library.heron_sample.argtypes = [*given, pointer, pointer, long, pointer, pointer, pointer]
    library.heron_spread.argtypes = [*given, pointer, pointer]
    return library.heron_sample, library.heron_spread
