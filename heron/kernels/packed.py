"""Attention along the branches of a packed tree: nobody's queries and keys meet twice.

The one hard idea: what many rows begin with (a group's prompt) is cut off as a *span*: all tokens below it, which are one range in
depth-first order, attend to its keys in one unmasked matrix product, siblings and query heads folded together. What is left of each
row attends to itself in *grids* of rows of similar length. The two are merged by their log-sum-exp, and so is everything in
between, however often rows branch. A short common beginning is not worth a product of its own; it is repeated in the grids, and
the first row that holds a token answers for it. Rows with nothing above them need no merging and go to torch's own attention where
that is faster. Memory beyond inputs and gradients is one tile of scores, and copies of what it is made from, backwards too.

8 prompts of 256 tokens with 8 answers of 44 on average (6 heads over 2, width 64), one layer forwards and backwards on one core of
a Zen 5 CPU: 170 ms in float32 and 130 ms in bfloat16, where rows that repeat their prompt take 540 and 680 ms in torch's attention.

It runs on any device. Windows and caps of the scores are handled in the tiles, sinks where these are put together: a sink is a key
whose value is 0, so all that it changes is the log-sum-exp. What it leaves out: finding keys that a window
hides below a span (they are masked, not skipped).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heron.kernels.packed_tiles import beside_sinks, hide, merge, tile_backward, tile_forward, wide
from heron.kernels.packed_tree import Chain, Tree

SPAN_PAIRS = 4096
"""A common beginning becomes a span if repeating it would cost at least so many pairs of a query and a key."""
TILE_SCORES = 1 << 19
"""Scores in a tile, about: 2 MiB in float32."""
TILE_QUERIES = 64
"""Columns of a grid that are computed together; a row's later keys are not even looked at."""
GRID_STEP = 16
"""A grid is a multiple of this many columns wide: a product 63 columns wide takes a CPU twice as long as one of 64."""
SHORT = 512
"""Rows up to this length are not given to torch's attention in 16 bits, where its backward pass on the CPU is three times slower, nor in a
batch with spans, where putting its results beside the others' costs more than it gains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A common beginning and everything below it, as places in preorder."""

    begin: int
    """First key."""
    end: int
    """Behind the last key; the first query."""
    stop: int
    """Behind the last query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """R rows of similar length that attend causally to themselves."""

    gather: Tensor
    """`[R, L]` place of every cell; cells to the right of a row's end hold any valid place."""
    kept: Tensor
    """`[R, L]` whether the cell answers for its place. Over all grids every place has exactly one such cell."""
    is_alone: bool
    """Whether the rows attend to nothing but themselves: no span stands above them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a layer wants of its attention."""

    scaling: float
    """Multiplies the scores."""
    window: int | None
    """Keys this far back, or further, are not seen."""
    softcap: float | None
    """Bound of the scores."""
    has_sinks: bool
    """Each head has one more key, whose value is 0."""

    @property
    def scores(self) -> dict[str, Any]:
        """Arguments of a tile."""
        return {"scaling": self.scaling, "softcap": self.softcap}

    def is_plain(self, grid: Grid, dtype: torch.dtype, *, is_alone: bool) -> bool:
        """Whether torch's own causal attention computes this grid, and does it fast; `is_alone` says that no grid needs anything else."""
        length = grid.gather.shape[1]
        is_full = self.softcap is None and not self.has_sinks and (self.window is None or self.window >= length)
        return grid.is_alone and is_full and (length > SHORT or (is_alone and dtype.itemsize > 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPlan:
    """Causal attention along rows of packed tokens that may share beginnings."""

    spans: tuple[Span, ...]
    """Long common beginnings."""
    grids: tuple[Grid, ...]
    """All rows, without the spans that they begin with; and the spans themselves."""
    depth: Tensor
    """`[T]` position of each place in its row."""
    order: Tensor | None
    """`[T]` packed index of each place; None if the tokens are packed in preorder."""
    places: Tensor | None
    """`[T]` place of each packed index; None likewise."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """`query [1, H, T, d]`, `key` and `value [1, K, T, d]` of one layer to `output [1, H, T, d]`."""
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, H, d], [T, K, d]
        if self.order is not None:
            q, k, v = (tensor.index_select(0, self.order) for tensor in (q, k, v))
        output = self._attend(q, k, v, sinks, Form(scaling=scaling, window=window, softcap=softcap, has_sinks=sinks is not None))
        if self.places is not None:
            output = output.index_select(0, self.places)
        return output.transpose(0, 1)[None]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, form: Form) -> Tensor:
        """`q [T, H, d]`, `k [T, K, d]`, `v [T, K, e]`, places in preorder, and `sinks [H]`, to `[T, H, e]`."""
        is_plain = [form.is_plain(grid, q.dtype, is_alone=not self.spans) for grid in self.grids]
        plain = [grid for grid, is_so in zip(self.grids, is_plain, strict=True) if is_so]
        tiled = [grid for grid, is_so in zip(self.grids, is_plain, strict=True) if not is_so]
        output = _TreeAttention.apply(q, k, v, sinks, self, tiled, form) if tiled else q.new_zeros(*q.shape[:2], v.shape[-1])
        if not plain:
            return output
        tokens = torch.cat([grid.gather[grid.kept] for grid in plain])
        return output.index_copy(0, tokens, torch.cat([_plain_attention(grid, q, k, v, form.scaling) for grid in plain]))


def plan_of(tree: Tree, *, device: torch.device, slack: float) -> PackedPlan:
    """Cut the tree into spans and grids. A grid holds rows whose lengths differ by at most the factor `slack`, and a few tokens."""
    spans, *kinds = _cut(tree.chains)
    seen: set[int] = set()
    grids = tuple(
        _grid(bucket, seen, device, is_alone=is_alone)
        for is_alone, rows in zip((True, False), kinds, strict=True) for bucket in _buckets(rows, slack)
    )
    order = None if tree.is_ordered else torch.tensor(tree.order, dtype=torch.int64, device=device)
    return PackedPlan(
        spans=tuple(spans), grids=grids, depth=torch.tensor(tree.depth, dtype=torch.int64, device=device),
        order=order, places=None if order is None else order.argsort(),
    )


def _cut(chains: Sequence[Chain]) -> tuple[list[Span], list[list[int]], list[list[int]]]:
    """Spans; then the places of all rows that are left: those with nothing above them, and those below spans."""
    above: list[list[int] | None] = []  # for each chain: places since the last span down to its end; None if it is a span
    spans: list[Span] = []
    alone: list[list[int]] = []
    below: list[list[int]] = []
    top = 0  # behind the last outermost span
    for chain in chains:
        before = (None if chain.parent is None else above[chain.parent]) or []
        row = [*before, *range(chain.begin, chain.end)]
        is_span = not before and chain.leaves > 1 and (chain.leaves - 1) * len(row) * (len(row) + 1) // 2 >= SPAN_PAIRS
        above.append(None if is_span else row)
        if is_span or chain.stop == chain.end:
            (below if chain.begin < top else alone).append(row)
        if is_span:
            spans.append(Span(begin=chain.begin, end=chain.end, stop=chain.stop))
            top = max(top, chain.stop)
    return spans, alone, below


def _buckets(rows: Sequence[list[int]], slack: float) -> list[list[list[int]]]:
    """The rows, by similar length."""
    buckets: list[list[list[int]]] = []
    for row in sorted(rows, key=len):
        if not buckets or len(row) > slack * len(buckets[-1][0]) + 8:
            buckets.append([])
        buckets[-1].append(row)
    return buckets


def _grid(rows: Sequence[Sequence[int]], seen: set[int], device: torch.device, *, is_alone: bool) -> Grid:
    length = GRID_STEP * math.ceil(max(len(row) for row in rows) / GRID_STEP)
    gather, kept = [], []
    for row in rows:
        padding = length - len(row)
        gather.append([*row, *[row[-1]] * padding])
        kept.append([*[place not in seen for place in row], *[False] * padding])
        seen.update(row)
    return Grid(
        gather=torch.tensor(gather, dtype=torch.int64, device=device), kept=torch.tensor(kept, device=device), is_alone=is_alone
    )


def _plain_attention(grid: Grid, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """`[n, H, e]` of the tokens that a grid of rows alone answers for. Padding stands on the right, where causal attention never looks."""
    q, k, v = (x.transpose(1, 2) for x in _at(grid.gather, q, k, v))  # [R, H, L, d], [R, K, L, d]
    output = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return output.transpose(1, 2)[grid.kept]


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, plan: PackedPlan, grids: Sequence[Grid], form: Form
    ) -> Tensor:
        """`[T, H, e]`; 0 for tokens that other grids than these answer for, whose infinite `lse` takes them out of the backward pass. With
        sinks there are no others."""
        output = q.new_zeros(*q.shape[:2], v.shape[-1], dtype=wide(q.dtype))  # [T, H, e]
        lse = output.new_full(output.shape[:2], float("inf"))  # [T, H]
        for grid in grids:
            _grid_forward(grid, q, k, v, form, output, lse)
        for queries, keys, hidden in _span_tiles(plan, q, k, form.window):
            more, more_lse = tile_forward(q[None, queries], k[None, keys], v[None, keys], hidden=hidden, **form.scores)
            merge(output[queries], lse[queries], more[0], more_lse[0])
        if sinks is not None:
            output.mul_(beside_sinks(lse, sinks))
            lse = torch.logaddexp(lse, sinks.to(lse.dtype))
        output = output.to(q.dtype)
        ctx.save_for_backward(q, k, v, sinks, output, lse)
        ctx.plan, ctx.grids, ctx.form = plan, grids, form
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, sinks, output, lse = ctx.saved_tensors
        delta = (grad.to(lse.dtype) * output).sum(-1)  # [T, H]
        grads = tuple(torch.zeros_like(x, dtype=lse.dtype, memory_format=torch.contiguous_format) for x in (q, k, v))
        for grid in ctx.grids:
            _grid_backward(grid, grad, q, k, v, lse, delta, ctx.form, grads)
        for queries, keys, hidden in _span_tiles(ctx.plan, q, k, ctx.form.window):
            parts = tile_backward(
                grad[None, queries], q[None, queries], k[None, keys], v[None, keys], lse[None, queries], delta[None, queries],
                hidden=hidden, **ctx.form.scores,
            )
            for whole, part, where in zip(grads, parts, (queries, keys, keys), strict=True):
                whole[where] += part[0]
        by_sinks = None if sinks is None else -((sinks.to(lse.dtype) - lse).exp() * delta).sum(0).to(sinks.dtype)  # [H]
        return *(whole.to(x.dtype) for whole, x in zip(grads, (q, k, v), strict=True)), by_sinks, None, None, None


def _span_tiles(plan: PackedPlan, q: Tensor, k: Tensor, window: int | None) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Queries, keys, and what hides keys from queries, of all tiles below spans."""
    heads, groups = q.shape[1], q.shape[1] // k.shape[1]
    for span in plan.spans:
        begin = span.begin if window is None else max(span.begin, span.end - window + 1)  # further back no query sees
        if begin == span.end:
            continue
        step = max(1, TILE_SCORES // (heads * (span.end - begin)))
        for first in range(span.end, span.stop, step):
            queries, keys = slice(first, min(first + step, span.stop)), slice(begin, span.end)
            hidden = None
            if window is not None:
                unseen = plan.depth[queries, None] - plan.depth[keys] >= window  # [C, J]
                hidden = hide(unseen, groups=groups, dtype=wide(q.dtype))
            yield queries, keys, hidden


def _grid_tiles(grid: Grid, q: Tensor, k: Tensor, window: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Places of queries `[R, C]`, whether their cells are kept, places of keys `[R, J]`, and what hides keys, of all tiles of a grid."""
    (rows, length), heads = grid.gather.shape, q.shape[1]
    columns = torch.arange(length, device=grid.gather.device)
    for first in range(0, length, TILE_QUERIES):
        end = min(first + TILE_QUERIES, length)
        begin = 0 if window is None else max(0, first - window + 1)
        distance = columns[first:end, None] - columns[begin:end]  # [C, J]
        unseen = distance < 0 if window is None else (distance < 0) | (distance >= window)
        hidden = hide(unseen, groups=heads // k.shape[1], dtype=wide(q.dtype))
        step = max(1, TILE_SCORES // (heads * (end - first) * (end - begin)))
        for row in range(0, rows, step):
            part = slice(row, row + step)
            yield grid.gather[part, first:end], grid.kept[part, first:end], grid.gather[part, begin:end], hidden


def _at(places: Tensor, *tensors: Tensor) -> Iterator[Tensor]:
    """`[T, ...]` to `[R, L, ...]` at `places [R, L]`."""
    return (tensor.index_select(0, places.flatten()).unflatten(0, places.shape) for tensor in tensors)


def _grid_forward(grid: Grid, q: Tensor, k: Tensor, v: Tensor, form: Form, output: Tensor, lse: Tensor) -> None:
    """Write the output and the log-sum-exp of the tokens that this grid answers for."""
    for queries, kept, keys, hidden in _grid_tiles(grid, q, k, form.window):
        parts = tile_forward(*_at(queries, q), *_at(keys, k, v), hidden=hidden, **form.scores)
        cells = kept.flatten().nonzero().squeeze(1)
        for whole, part in zip((output, lse), parts, strict=True):
            whole.index_copy_(0, queries.flatten()[cells], part.flatten(0, 1).index_select(0, cells))


def _grid_backward(
    grid: Grid, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, delta: Tensor, form: Form, grads: Sequence[Tensor]
) -> None:
    """Add what flows back through the tokens that this grid answers for; an infinite `lse` takes its other cells out."""
    for queries, kept, keys, hidden in _grid_tiles(grid, q, k, form.window):
        some_grad, some_q, some_lse, some_delta = _at(queries, grad, q, lse, delta)
        some_k, some_v = _at(keys, k, v)
        some_lse.masked_fill_(~kept[..., None], float("inf"))
        parts = tile_backward(some_grad, some_q, some_k, some_v, some_lse, some_delta, hidden=hidden, **form.scores)
        for whole, part, places in zip(grads, parts, (queries, keys, keys), strict=True):
            whole.index_add_(0, places.flatten(), part.flatten(0, 1).to(whole.dtype))
