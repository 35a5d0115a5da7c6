"""Attention of one new token per row, through pages: by a compiled kernel (`HostPlan`) or by torch's products (`DecodePlan`).

Which row reads which page (`Readers`, `Layout`) stays the same for many tokens; where the new tokens are changes with each. For torch,
which tokens of a page are seen is worked out once per forward pass, for all layers of one window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from heron.engine.native.layout import NOWHERE, Layout, Part
from heron.engine.native.store import Store
from heron.kernels.host import attend
from heron.kernels.packed_tiles import wide
from heron.kernels.paged import paged_attention


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """New tokens `[1, B]`, one per row, attend to their rows' pages, after their own keys and values were put there; by `kernels.host`."""

    store: Store
    """Keys and values."""
    readers: attend.Readers
    """Which rows read which pages, and where the new tokens are."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        query, key, value = (part.permute(2, 1, 0, 3) for part in (query, key, value))  # [B, H, 1, d]
        keys, values = self.store.keys[layer], self.store.values[layer]
        output = attend.attend(query, key, value, keys, values, self.readers, scaling=scaling, window=window, softcap=softcap, sinks=sinks)
        return output.permute(2, 1, 0, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """The same by torch, on any device."""

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
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        heads, group = key.shape[1], query.shape[1] // key.shape[1]
        self.store.write(layer, _by_row(key), _by_row(value), self.layout.last_pages, self.offsets)
        if (kind := (window, heads, group)) not in self.masks:
            self.masks[kind] = [self._hidden(part, window, heads, group, wide(query.dtype)) for part in self.layout.parts]
        output = paged_attention(
            _by_row(query), self.store.keys[layer], self.store.values[layer], self.layout.table(heads), self.masks[kind],
            scaling=scaling, softcap=softcap, sinks=sinks,
        )
        return output.transpose(0, 1)[None]

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


def _by_row(heads: Tensor) -> Tensor:
    """`[1, H, B, d]` as `[B, H, d]`."""
    return heads[0].transpose(0, 1)
