"""One attention function for training and sampling, registered with transformers under the name `heron`.

The one hard idea: the model's own modules run unchanged on packed tokens `[1, T]` (no padding in any linear layer), and a
*plan*, passed through `model(..., plan=plan)`, says who attends to whom. Training packs each prompt once in front of its
siblings; every sibling attends to the shared prompt and to itself. The plan does that by index: it gathers `[rows, length]`
grids from the packed tokens, lets plain causal attention run on them, and scatters the result back. Padding sits on the right
of a grid, where causal attention never looks, so no mask is made. Gradients through the shared prompt are exact, because
gathering twice from one place adds its gradients.

Left out: paged caches and a faster path for very long prompts (the prompt's attention, not its linear layers, is repeated
for each sibling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "heron"
"""The name under which the function is registered with transformers."""


class AttentionPlan(Protocol):
    """Who attends to whom in one forward pass."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
        """`query [B, H, T, d]`, `key` and `value [B, K, T, d]` of one layer to `output [B, H, T, d]`."""
        ...


def register() -> None:
    """Make the function known to transformers. Called when a policy is made; calling it again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, scaling: float | None = None, plan: AttentionPlan, sliding_window: int | None = None, **_: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = plan.attend(int(module.layer_idx), query, key, value, scaling=scale, window=sliding_window)  # type: ignore[arg-type]
    return output.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """The plan knows who attends to whom; transformers need not build a mask."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
    """Causal attention of `[R, H, L, d]` over `[R, K, L, d]` (K divides H), optionally within a sliding window of positions."""
    length = query.shape[-2]
    mask = None
    if window is not None and length > window:
        distance = torch.arange(length, device=query.device)[:, None] - torch.arange(length, device=query.device)
        mask = (distance >= 0) & (distance < window)  # [L, L]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows of similar length, as indices into the packed tokens."""

    gather: Tensor
    """`[R, L]` packed index of every cell; cells to the right of a row's end hold any valid index."""
    cells: Tensor
    """`[n]` flat cells of this grid whose output is kept."""
    tokens: Tensor
    """`[n]` packed tokens that they belong to. Over all grids every packed token occurs exactly once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPlan:
    """Causal attention along rows of packed tokens; rows may share a beginning (the group's prompt)."""

    grids: tuple[Grid, ...]
    """Rows, sorted into grids of similar length."""
    order: Tensor
    """`[T]` where each packed token's output stands in the concatenation of the grids' outputs."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, H, d], [T, K, d]
        outputs = [self._attend_grid(grid, q, k, v, scaling, window) for grid in self.grids]
        return torch.cat(outputs).index_select(0, self.order).transpose(0, 1)[None]  # [1, H, T, d]

    @staticmethod
    def _attend_grid(grid: Grid, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        rows, length = grid.gather.shape
        cells = grid.gather.flatten()
        q, k, v = (x.index_select(0, cells).unflatten(0, (rows, length)).transpose(1, 2) for x in (q, k, v))  # [R, H, L, d]
        output = causal_attention(q, k, v, scaling=scaling, window=window)
        return output.transpose(1, 2).flatten(0, 1).index_select(0, grid.cells)  # [n, H, d]


def packed_plan(rows: Sequence[Sequence[int]], *, device: torch.device, slack: float = 1.25) -> PackedPlan:
    """Plan for rows of packed indices, each in reading order. A token's output is taken from the first row that holds it.

    `slack` bounds the padding: a grid holds rows whose lengths differ by at most this factor.
    """
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    grids: list[list[int]] = []
    for row in order:
        if not grids or len(rows[row]) > slack * len(rows[grids[-1][0]]) + 8:
            grids.append([])
        grids[-1].append(row)
    seen: set[int] = set()
    made = tuple(_grid([rows[row] for row in grid], seen, device) for grid in grids)
    return PackedPlan(grids=made, order=torch.cat([grid.tokens for grid in made]).argsort())


def _grid(rows: Sequence[Sequence[int]], seen: set[int], device: torch.device) -> Grid:
    length = max(len(row) for row in rows)
    gather, cells, tokens = [], [], []
    for number, row in enumerate(rows):
        gather.append([*row, *[row[-1]] * (length - len(row))])
        for column, token in enumerate(row):
            if token not in seen:
                seen.add(token)
                cells.append(number * length + column)
                tokens.append(token)
    gather_t, cells_t, tokens_t = (torch.tensor(x, dtype=torch.int64, device=device) for x in (gather, cells, tokens))
    return Grid(gather=gather_t, cells=cells_t, tokens=tokens_t)
