"""Attention of one new token per row, through pages.

Which row reads which page (`Layout`) stays the same for many tokens; which tokens of a page are seen changes with each, and is worked
out once per forward pass for all layers of one window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from heron.engine.native.layout import NOWHERE, Layout, Part
from heron.engine.native.store import Store
from heron.kernels.packed_tiles import wide
from heron.kernels.paged import paged_attention


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """One new token per row attends to its row's pages, after its own key and value were put there."""

    store: Store
    """Keys and values."""
    layout: Layout
    """Which rows read which pages."""
    positions: Tensor
    """`[B]` of the new tokens."""
    offsets: Tensor
    """`[B]` their places in their pages."""
    masks: dict[tuple[int | None, int, int], list[Tensor]] = field(default_factory=dict)
    """By window, key heads, and query heads of each: what is hidden from whom, for each region of the layout."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None
    ) -> Tensor:
        heads, group = key.shape[1], query.shape[1] // key.shape[1]
        self.store.write(layer, key[:, :, 0], value[:, :, 0], self.layout.last_pages, self.offsets)
        if (kind := (window, heads, group)) not in self.masks:
            self.masks[kind] = [self._hidden(part, window, heads, group, wide(query.dtype)) for part in self.layout.parts]
        output = paged_attention(
            query[:, :, 0], self.store.keys[layer], self.store.values[layer], self.layout.table(heads), self.masks[kind],
            scaling=scaling, softcap=softcap,
        )
        return output[:, :, None]

    def _hidden(self, part: Part, window: int | None, heads: int, group: int, dtype: torch.dtype) -> Tensor:
        """`[n K, 1 or R g, s]`: 0 where a page's token is seen by a reader, `-inf` where it is not."""
        tokens = part.begins[:, None] + torch.arange(self.store.page_size, device=part.begins.device)  # [n, s] positions
        readers = part.rows.shape[1]
        if window is None and readers > 1:  # full pages: all or nothing
            unseen = (tokens >= NOWHERE)[:, None]
        else:
            here = self.positions[part.rows][:, :, None]  # [n, R, 1]
            unseen = tokens[:, None] > here
            if window is not None:
                unseen |= tokens[:, None] <= here - window
        hidden = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))  # [n, 1 or R, s]
        if hidden.shape[1] > 1:
            hidden = hidden.repeat_interleave(group, 1)
        return hidden.repeat_interleave(heads, 0)
