"""Keys and values of one wave of completions, and the two attention plans that fill and read it.

The one hard idea: all rows of a wave share one write position. Prompts are laid right-aligned into the cache, so the next token
of every row goes into the same column, whatever the length of its prompt. A prompt is computed once (packed with the others)
and its keys and values are then written to the row of every sibling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heron.kernels.attention import PackedPlan


@dataclass(slots=True, kw_only=True)
class KeyValueCache:
    """`[B, K, C, d]` keys and values per layer; columns before a row's `start` are padding."""

    capacity: int
    """Columns C: the longest prompt of the wave plus the most new tokens."""
    starts: Tensor
    """`[B]` first column of each row's prompt."""
    cursor: int
    """The next column to write."""
    keys: dict[int, Tensor]
    """By layer."""
    values: dict[int, Tensor]
    """By layer."""

    def write_prompt(self, layer: int, key: Tensor, value: Tensor, source: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Copy packed `key, value [T, K, d]` at `source [n]` to cells `rows [n], columns [n]`."""
        batch = len(self.starts)
        for store, packed in ((self.keys, key), (self.values, value)):
            if layer not in store:
                store[layer] = packed.new_zeros(batch, packed.shape[1], self.capacity, packed.shape[2])
            store[layer][rows, :, columns] = packed.index_select(0, source)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write `[B, K, 1, d]` at the cursor; returns everything up to and including it, `[B, K, t, d]`."""
        end = self.cursor + 1
        self.keys[layer][:, :, self.cursor : end] = key
        self.values[layer][:, :, self.cursor : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self.starts = self.starts[rows]
        for store in (self.keys, self.values):
            for layer, tensor in store.items():
                store[layer] = tensor.index_select(0, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillPlan:
    """Attend within packed prompts and leave their keys and values in the cache."""

    packed: PackedPlan
    """Who attends to whom among the packed prompt tokens."""
    cache: KeyValueCache
    """Where keys and values go."""
    source: Tensor
    """`[n]` packed index of every prompt token of every completion."""
    rows: Tensor
    """`[n]` its row in the cache."""
    columns: Tensor
    """`[n]` its column in the cache."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
        self.cache.write_prompt(layer, key[0].transpose(0, 1), value[0].transpose(0, 1), self.source, self.rows, self.columns)
        return self.packed.attend(layer, query, key, value, scaling=scaling, window=window)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """One new token per row attends to its whole row."""

    cache: KeyValueCache
    """What has been said so far."""
    visible: Tensor | None
    """`[B, 1, 1, t]` True where a column holds a token of the row; None if every column does."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
        keys, values = self.cache.append(layer, key, value)
        visible = self.visible
        if window is not None and keys.shape[2] > window:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
            visible = None if visible is None else visible[..., -window:]
        batch, heads, _, width = query.shape
        folded = query.view(batch, keys.shape[1], heads // keys.shape[1], width)  # siblings of a key head become its queries
        output = scaled_dot_product_attention(folded, keys, values, attn_mask=visible, scale=scaling)
        return output.reshape(batch, heads, 1, -1)  # a value may be narrower than a key


def prompt_layout(lengths: Sequence[int], copies: Sequence[int], width: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Where packed prompts go in a cache: `(source, rows, columns)` of every cell, and the start column of every row.

    Prompts of these `lengths` lie packed one after the other; each is copied to `copies` consecutive rows, right-aligned to
    column `width`.
    """
    source: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    starts: list[int] = []
    offset = 0
    for length, count in zip(lengths, copies, strict=True):
        for _ in range(count):
            row = len(starts)
            starts.append(width - length)
            source.extend(range(offset, offset + length))
            rows.extend([row] * length)
            columns.extend(range(width - length, width))
        offset += length
    return source, rows, columns, starts


def empty_cache(starts: Sequence[int], *, capacity: int, cursor: int, device: torch.device) -> KeyValueCache:
    """A cache whose rows begin at these columns, nothing written yet."""
    return KeyValueCache(
        capacity=capacity, starts=torch.tensor(starts, device=device), cursor=cursor, keys={}, values={}
    )
