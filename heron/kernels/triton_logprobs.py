"""The work on a tile of logits as two Triton kernels: `logprobs_fold.TorchEpilogue` in one pass over memory instead of eight.

The one hard idea: the matrix products stay with the library, which runs them at the GPU's full rate; between two of them each tile is
read once and written once. One program takes one row of a tile, at most `MAX_WORDS` logits, and holds all of it in registers, so the new
maximum is known before the first probability is written. Every field of `Running` is read and updated by the row's own program.

Not yet run on a GPU: the same tests that hold for torch pass under Triton's interpreter. Left out: tuning, and float64 at full precision
(scalars reach a compiled kernel as float32), so float64 takes the torch epilogue unless told otherwise.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives the parameters of its kernels their types.
from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from heron.kernels.logprobs_fold import FAR_BELOW, LogitRule, RowGradient, Running, Words


class TritonEpilogue:
    """An `Epilogue` for CUDA tensors; under the interpreter also for those of a CPU."""

    def __init__(self, rule: LogitRule) -> None:
        self._logits: dict[str, Any] = {
            "scale": rule.scale, "softcap": rule.softcap or 1.0, "temperature": rule.temperature, "HAS_CAP": rule.softcap is not None,
        }

    def fold(self, tile: Tensor, words: Words, running: Running, out: Tensor | None) -> None:
        """One launch, a program for each token."""
        to = tile if out is None else out
        _fold_kernel[(len(tile),)](
            tile, tile.stride(0), words.bias, to, to.stride(0), running.target_ids, running.maximum, running.others, running.weighted,
            running.target, running.rescale, words.start, tile.shape[1], **self._logits, HAS_BIAS=words.bias is not None,
            HAS_OUT=out is not None, HAS_ENTROPY=running.weighted is not None, FLOOR=FAR_BELOW, **_block(tile),
        )

    def gradient(self, tile: Tensor, words: Words, rows: RowGradient, out: Tensor) -> None:
        """One launch, a program for each token."""
        _gradient_kernel[(len(tile),)](
            tile, tile.stride(0), words.bias, out, out.stride(0), rows.target_ids, rows.log_normalizer, rows.logprob_grad, rows.entropy,
            rows.entropy_grad, rows.at_target, words.start, tile.shape[1], **self._logits, HAS_BIAS=words.bias is not None,
            HAS_ENTROPY=rows.entropy_grad is not None, FLOOR=FAR_BELOW, **_block(tile),
        )


def _block(tile: Tensor) -> dict[str, int]:
    size = int(triton.next_power_of_2(tile.shape[1]))
    return {"BLOCK": size, "num_warps": 8 if size >= 2048 else 4}


@triton.jit
def _fold_kernel(
    tile_ptr, tile_stride, bias_ptr, out_ptr, out_stride, target_ids_ptr, maximum_ptr, others_ptr, weighted_ptr, target_ptr, rescale_ptr,
    start, num_words, scale, softcap, temperature,
    HAS_CAP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_OUT: tl.constexpr, HAS_ENTROPY: tl.constexpr, FLOOR: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    z, slope = _row_logits(
        tile_ptr + row * tile_stride, bias_ptr, columns, columns < num_words, scale, softcap, temperature, HAS_CAP, HAS_BIAS
    )
    old = tl.load(maximum_ptr + row)
    new = tl.maximum(old, tl.max(z, axis=0))
    rescale = tl.exp(old - new)
    column = tl.load(target_ids_ptr + row) - start
    p = tl.where(columns == column, 0.0, tl.exp(z - new))
    others = tl.load(others_ptr + row)
    if HAS_ENTROPY:
        weighted = (tl.load(weighted_ptr + row) + (old - new) * others) * rescale
        tl.store(weighted_ptr + row, weighted + tl.sum(p * tl.maximum(z - new, FLOOR), axis=0))
    tl.store(others_ptr + row, others * rescale + tl.sum(p, axis=0))
    tl.store(maximum_ptr + row, new)
    tl.store(rescale_ptr + row, rescale)
    if (column >= 0) & (column < num_words):
        tl.store(target_ptr + row, tl.sum(tl.where(columns == column, z, 0.0), axis=0))
    if HAS_OUT:
        tl.store(out_ptr + row * out_stride + columns, (p * slope).to(out_ptr.dtype.element_ty), mask=columns < num_words)


@triton.jit
def _gradient_kernel(
    tile_ptr, tile_stride, bias_ptr, out_ptr, out_stride, target_ids_ptr, log_normalizer_ptr, logprob_grad_ptr, entropy_ptr,
    entropy_grad_ptr, at_target_ptr, start, num_words, scale, softcap, temperature,
    HAS_CAP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_ENTROPY: tl.constexpr, FLOOR: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    z, slope = _row_logits(
        tile_ptr + row * tile_stride, bias_ptr, columns, columns < num_words, scale, softcap, temperature, HAS_CAP, HAS_BIAS
    )
    logp = z - tl.load(log_normalizer_ptr + row)
    pull = tl.load(logprob_grad_ptr + row)
    if HAS_ENTROPY:
        pull += tl.load(entropy_grad_ptr + row) * (tl.maximum(logp, FLOOR) + tl.load(entropy_ptr + row))
    column = tl.load(target_ids_ptr + row) - start
    grad = tl.where(columns == column, tl.load(at_target_ptr + row), -tl.exp(logp) * pull) * slope
    tl.store(out_ptr + row * out_stride + columns, grad.to(out_ptr.dtype.element_ty), mask=columns < num_words)


@triton.jit
def _row_logits(
    row_ptr, bias_ptr, columns, mask, scale, softcap, temperature, HAS_CAP: tl.constexpr, HAS_BIAS: tl.constexpr
):  # fmt: skip
    """Logits of one row, minus infinity right of its end, and the slope of the cap."""
    z = tl.load(row_ptr + columns, mask=mask, other=0.0)
    if HAS_BIAS:
        z += tl.load(bias_ptr + columns, mask=mask, other=0.0)
    z = z * scale
    slope = tl.full(z.shape, 1.0, z.dtype)
    if HAS_CAP:
        bent = 2.0 * tl.sigmoid(2.0 * z / softcap) - 1.0  # tanh
        slope = 1.0 - bent * bent
        z = softcap * bent
    return tl.where(mask, z / temperature, -float("inf")), slope
