"""Attention of one tile of queries over one tile of keys, forwards and backwards, in a form whose parts can be added up.

The one hard idea: a softmax over two sets of keys is the mean of the softmax over each, weighted by `exp(lse)`, the sums that they
were divided by. So a tile returns its output and its log-sum-exp, and the backward pass of a tile needs nothing of the others but
the log-sum-exp of all of them and `delta = grad . output` (FlashAttention-2, arXiv:2307.08691, section 3.1). Query heads that
share a key head are folded into the length of the query: one matrix product for all of them.

Scores and softmax are float32 whatever the inputs are (float64 for float64); products with values and the gradients' products are
of the inputs' type. On one core of a Zen 5 CPU, 352 queries of 6 heads over 256 keys (2 heads, width 64) take 2.2 ms forwards and
5.0 ms backwards in float32 (torch's flash attention for CPUs: 2.3 and 5.5), 1.8 and 3.3 ms in bfloat16 (2.1 and 3.9; its backward
pass over short rows is five times slower than this one). What it leaves out: dropout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LN_2 = math.log(2)
"""Scores are held in units of it: a CPU takes a third of the time for a power of 2, and a sixth where keys are hidden."""
LOWEST = -1e30
"""Stands for the largest score of a query that sees no key of the tile: finite, so that nothing becomes NaN."""


def tile_forward(
    query: Tensor, key: Tensor, value: Tensor, *, hidden: Tensor | None, scaling: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Attention within R tiles.

    Args:
        query: `[R, C, H, d]`.
        key: `[R, J, K, d]`, K divides H.
        value: `[R, J, K, e]`.
        hidden: `[C g, J]` added to the scores of folded queries: `-inf` where a query must not see a key (`hide` makes it); None if it
            sees all.
        scaling: multiplies the scores.
        softcap: scores become `softcap * tanh(scores / softcap)`.

    Returns:
        Output `[R, C, H, e]` over these keys alone and its log-sum-exp `[R, C, H]`, both wide.
    """
    shape, heads = query.shape[:3], key.shape[2]
    scores, _ = _scores(fold(query, heads), fold(key, heads), hidden, scaling, softcap)  # [R K, C g, J]
    top = scores.amax(-1, keepdim=True).clamp_(min=LOWEST)
    weights = scores.sub_(top).exp2_()
    total = weights.sum(-1, keepdim=True).clamp_(min=torch.finfo(weights.dtype).tiny)
    output = torch.bmm(weights.to(value.dtype), fold(value, heads)).to(total.dtype).div_(total)
    return _unfold(output, shape, heads), _unfold(top.add_(total.log2()).mul_(LN_2), shape, heads).squeeze(-1)


def tile_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, lse: Tensor, delta: Tensor,
    *, hidden: Tensor | None, scaling: float, softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `query`, `key` and `value` of `tile_forward` that flow through this tile.

    `grad [R, C, H, e]` is the gradient of the merged output, `lse [R, C, H]` the log-sum-exp over all tiles that the queries attend
    to, and `delta [R, C, H]` the dot product of `grad` and the merged output.
    """
    shape, heads = query.shape[:3], key.shape[2]
    grad, query, key, value = (fold(x, heads) for x in (grad, query, key, value))
    lse, delta = (fold(x[..., None], heads) for x in (lse, delta))
    scores, slope = _scores(query, key, hidden, scaling, softcap)
    weights = scores.sub_(lse, alpha=1 / LN_2).exp2_()  # [R K, C g, J]
    grad_value = torch.bmm(weights.to(value.dtype).transpose(1, 2), grad)
    grad_scores = torch.bmm(grad, value.transpose(1, 2)).to(weights.dtype).sub_(delta).mul_(weights)
    if slope is not None:
        grad_scores.mul_(slope)
    grad_scores = grad_scores.to(query.dtype)
    grad_query, grad_key = _product(grad_scores, key, scaling), _product(grad_scores.transpose(1, 2), query, scaling)
    keys = (shape[0], key.shape[1], heads)
    return _unfold(grad_query, shape, heads), _unfold(grad_key, keys, heads), _unfold(grad_value, keys, heads)


def hide(unseen: Tensor, *, groups: int, dtype: torch.dtype) -> Tensor:
    """`[C g, J]` for `tile_forward` from `unseen [C, J]`, True where a query must not see a key; g query heads share a key head."""
    return torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, float("-inf")).repeat_interleave(groups, 0)


def merge(output: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> None:
    """Add attention over further keys, `more [..., e]` with `more_lse [...]`, to `output` and `lse` in place."""
    both = torch.logaddexp(lse, more_lse)
    output.mul_((lse - both).exp_()[..., None]).addcmul_(more, (more_lse - both).exp_()[..., None])
    lse.copy_(both)


def beside_sinks(lse: Tensor, sinks: Tensor) -> Tensor:
    """`[..., 1]` share of the weights that a softmax with log-sum-exp `lse [...]` keeps beside a sink: what its output is multiplied by."""
    return torch.sigmoid(lse - sinks.to(lse.dtype))[..., None]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of scores and sums."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def fold(x: Tensor, heads: int) -> Tensor:
    """`[R, C, heads g, d]` to `[R heads, C g, d]`: query heads of one key head become its queries."""
    tiles, length, all_heads, width = x.shape
    split = x.view(tiles, length, heads, all_heads // heads, width)
    return split.permute(0, 2, 1, 3, 4).reshape(tiles * heads, length * (all_heads // heads), width)


def _unfold(x: Tensor, shape: tuple[int, ...], heads: int) -> Tensor:
    """The inverse of `fold`: `[R heads, C g, d]` to `[R, C, heads g, d]`, where the first three are `shape`."""
    tiles, length, all_heads = shape
    split = x.view(tiles, heads, length, all_heads // heads, x.shape[-1])
    return split.permute(0, 2, 1, 3, 4).reshape(tiles, length, all_heads, x.shape[-1])


def _scores(
    query: Tensor, key: Tensor, hidden: Tensor | None, scaling: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Wide scores `[N, M, J]` of folded queries `[N, M, d]`, in units of log 2; and their slope with respect to the plain ones if they
    are capped."""
    dtype = wide(query.dtype)
    unit = LN_2 if softcap is None else softcap
    scores = _product(query.to(dtype), key.to(dtype).transpose(1, 2), scaling / unit)
    slope = None
    if softcap is not None:
        tanh = scores.tanh_()
        slope = 1 - tanh.square()
        scores = tanh.mul_(softcap / LN_2)
    if hidden is not None:
        scores.add_(hidden)
    return scores, slope


def _product(left: Tensor, right: Tensor, scaling: float) -> Tensor:
    """`scaling * left @ right`, scaled within the matrix product."""
    return torch.baddbmm(left.new_empty(1, 1, 1), left, right, beta=0, alpha=scaling)
