"""Keys and values of one wave of completions, and the two attention plans that fill and read it.

The one hard idea: all rows of a wave share one write position. Prompts are laid right-aligned into the cache, so the next token
of every row goes into the same column, whatever the length of its prompt. A prompt is computed once (packed with the others)
and has one row, which its siblings share until they say different things: then the row is forked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heron.kernels.attention import AttentionPlan


@dataclass(slots=True, kw_only=True)
class KeyValueCache:
    """`[B, K, C, d]` keys and values per layer; columns before a row's `start` are padding."""

    capacity: int
    """Columns C: the longest prompt of the wave plus the most new tokens."""
    room: int
    """Rows that are set aside; those in use come first."""
    starts: Tensor
    """`[B]` first column of each row's prompt."""
    cursor: int
    """The next column to write."""
    keys: dict[int, Tensor]
    """By layer."""
    values: dict[int, Tensor]
    """By layer."""

    def write_prompts(self, layer: int, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Copy packed `key, value [T, K, d]` to cells `rows [T], columns [T]`."""
        for store, packed in ((self.keys, key), (self.values, value)):
            if layer not in store:
                store[layer] = packed.new_zeros(self.room, packed.shape[1], self.capacity, packed.shape[2])
            store[layer][rows, :, columns] = packed

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write `[B, K, 1, d]` at the cursor; returns everything up to and including it, `[B, K, t, d]`."""
        end, rows = self.cursor + 1, len(self.starts)
        self.keys[layer][:rows, :, self.cursor : end] = key
        self.values[layer][:rows, :, self.cursor : end] = value
        return self.keys[layer][:rows, :, :end], self.values[layer][:rows, :, :end]

    def fork(self, parents: Tensor) -> None:
        """Add a copy of each of these rows behind the others."""
        rows, new = len(self.starts), len(self.starts) + len(parents)
        self.starts = torch.cat([self.starts, self.starts[parents]])
        for store in (self.keys, self.values):
            for tensor in store.values():
                tensor[rows:new, :, : self.cursor] = tensor[parents, :, : self.cursor]

    def keep(self, rows: Tensor, *, room: int) -> None:
        """Drop all rows but these; `room` is how many there may be from now on."""
        self.starts, self.room = self.starts[rows], room
        for store in (self.keys, self.values):
            for layer, tensor in store.items():
                store[layer] = tensor.new_zeros(room, *tensor.shape[1:])
                store[layer][: len(rows)] = tensor.index_select(0, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillPlan:
    """Attend within packed prompts and leave their keys and values in the cache."""

    packed: AttentionPlan
    """Who attends to whom among the packed prompt tokens."""
    cache: KeyValueCache
    """Where keys and values go."""
    rows: Tensor
    """`[T]` row in the cache of every packed token."""
    columns: Tensor
    """`[T]` its column in the cache."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None
    ) -> Tensor:
        self.cache.write_prompts(layer, key[0].transpose(0, 1), value[0].transpose(0, 1), self.rows, self.columns)
        return self.packed.attend(layer, query, key, value, scaling=scaling, window=window, softcap=softcap)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """One new token per row attends to its whole row."""

    cache: KeyValueCache
    """What has been said so far."""
    visible: Tensor | None
    """`[B, 1, 1, t]` True where a column holds a token of the row; None if every column does."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None
    ) -> Tensor:
        keys, values = self.cache.append(layer, key, value)
        visible = self.visible
        if window is not None and keys.shape[2] > window:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
            visible = None if visible is None else visible[..., -window:]
        batch, heads, _, width = query.shape
        folded = query.view(batch, keys.shape[1], heads // keys.shape[1], width)  # siblings of a key head become its queries
        if softcap is None:
            output = scaled_dot_product_attention(folded, keys, values, attn_mask=visible, scale=scaling)
        else:
            output = _capped_attention(folded, keys, values, visible, scaling=scaling, softcap=softcap)
        return output.reshape(batch, heads, 1, -1)  # a value may be narrower than a key


def _capped_attention(
    query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, *, scaling: float, softcap: float
) -> Tensor:
    """Attention whose scores become `softcap * tanh(scores / softcap)` (Gemma 2), in float32: `[B, K, g, d]` over `[B, K, t, d]`."""
    scores = softcap * torch.tanh(query.float() @ keys.float().transpose(-1, -2) * (scaling / softcap))  # [B, K, g, t]
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return scores.softmax(-1).to(values.dtype) @ values


def prompt_layout(lengths: Sequence[int], width: int) -> tuple[list[int], list[int]]:
    """Cache row and column of every token of prompts of these lengths, packed one after the other and right-aligned to `width`."""
    rows = [row for row, length in enumerate(lengths) for _ in range(length)]
    columns = [column for length in lengths for column in range(width - length, width)]
    return rows, columns


def empty_cache(starts: Sequence[int], *, room: int, capacity: int, cursor: int, device: torch.device) -> KeyValueCache:
    """A cache whose rows begin at these columns, nothing written yet."""
    return KeyValueCache(
        capacity=capacity, room=room, starts=torch.tensor(starts, device=device), cursor=cursor, keys={}, values={}
    )
