"""Attention of prompts: chunks of new tokens, which leave their keys and values in pages.

The one hard idea: chunks that begin a prompt are packed as in training, so what prompts begin with alike (a system prompt, examples) is
computed once for all of them. Chunks that go on behind tokens in pages (a long prompt, a second turn, a preempted row) attend to those
and to themselves, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.engine.native.scheduler import Chunk
from heron.engine.native.store import Store
from heron.kernels.attention import AttentionPlan, packed_plan
from heron.kernels.packed_tiles import beside_sinks, hide, tile_forward, wide

QUERIES = 256
"""Tokens of a continued chunk whose scores are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A chunk of tokens behind others that are in pages already."""

    tokens: slice
    """Where it stands among the packed tokens."""
    past: int
    """How many tokens stand before it."""
    pages: Tensor
    """`[m]` pages of everything up to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillPlan:
    """Attend among new tokens and to what is in pages, and leave keys and values of the new ones there."""

    store: Store
    """Where they go."""
    fresh: int
    """Tokens, packed first, whose rows begin here."""
    packed: AttentionPlan | None
    """Who attends to whom among those; None if there are none."""
    continued: tuple[Continued, ...]
    """The others."""
    sources: Tensor
    """`[N]` packed index of every token to write; one that several rows begin with is written for each."""
    pages: Tensor
    """`[N]` the page that it goes to."""
    offsets: Tensor
    """`[N]` its place in that page."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        new = (key[0].transpose(0, 1)[self.sources], value[0].transpose(0, 1)[self.sources])  # [N, K, d]
        self.store.write(layer, *new, self.pages, self.offsets)
        parts = []
        if self.packed is not None:
            first = (x[:, :, : self.fresh] for x in (query, key, value))
            parts.append(self.packed.attend(layer, *first, scaling=scaling, window=window, softcap=softcap, sinks=sinks))
        for chunk in self.continued:
            seen = self.store.read(layer, chunk.pages, chunk.past + chunk.tokens.stop - chunk.tokens.start)
            parts.append(_behind(query[0, :, chunk.tokens].transpose(0, 1), *seen, past=chunk.past, scaling=scaling, window=window,
                                 softcap=softcap, sinks=sinks).to(query.dtype).transpose(0, 1)[None])
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _behind(
    query: Tensor, keys: Tensor, values: Tensor, *, past: int, scaling: float, window: int | None, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Output `[n, H, e]` of queries `[n, H, d]` at the last n of `keys [past + n, K, d]`."""
    output = []
    places = torch.arange(len(keys), device=query.device)
    for begin in range(0, len(query), QUERIES):
        asked = query[begin : begin + QUERIES]
        here = past + begin + torch.arange(len(asked), device=query.device)[:, None]
        unseen = places > here if window is None else (places > here) | (places <= here - window)
        hidden = hide(unseen, groups=query.shape[1] // keys.shape[1], dtype=wide(query.dtype))
        part, lse = tile_forward(asked[None], keys[None], values[None], hidden=hidden, scaling=scaling, softcap=softcap)
        output.append(part[0] if sinks is None else part[0] * beside_sinks(lse[0], sinks))
    return torch.cat(output)


def prefill_plan(chunks: Sequence[Chunk], store: Store, device: torch.device) -> tuple[PrefillPlan, Tensor, Tensor, Tensor]:
    """The plan; `token_ids [1, T]` and `positions [1, T]`; and the packed index of the last token of every chunk, in their order."""
    ordered = sorted(chunks, key=lambda chunk: chunk.begin > 0)
    tables = [(*chunk.branch.shared, *chunk.branch.own) for chunk in ordered]
    fresh = [chunk for chunk in ordered if chunk.begin == 0]
    tokens, positions, rows = common_beginnings([chunk.branch.token_ids[: chunk.end] for chunk in fresh])
    count, continued = len(tokens), []
    for chunk, table in zip(ordered[len(fresh) :], tables[len(fresh) :], strict=True):
        rows.append(range(len(tokens), len(tokens) + chunk.end - chunk.begin))
        tokens += chunk.branch.token_ids[chunk.begin : chunk.end]
        positions += range(chunk.begin, chunk.end)
        seen = torch.tensor(table[: -(-chunk.end // store.page_size)], device=device)
        continued.append(Continued(tokens=slice(rows[-1][0], len(tokens)), past=chunk.begin, pages=seen))
    cells = [
        (table[place // store.page_size], place % store.page_size)
        for chunk, table in zip(ordered, tables, strict=True) for place in range(chunk.begin, chunk.end)
    ]
    pages, offsets = torch.tensor(cells, device=device).unbind(1)
    plan = PrefillPlan(
        store=store, fresh=count, packed=packed_plan(rows[: len(fresh)], device=device) if fresh else None, continued=tuple(continued),
        sources=torch.tensor([index for row in rows for index in row], device=device), pages=pages, offsets=offsets,
    )
    ends = {id(chunk): row[-1] for chunk, row in zip(ordered, rows, strict=True)}
    last = torch.tensor([ends[id(chunk)] for chunk in chunks], device=device)
    return plan, torch.tensor([tokens], device=device), torch.tensor([positions], device=device), last


def common_beginnings(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[Sequence[int]]]:
    """Tokens and positions of rows packed so that what they begin with alike is there once, and each row's packed indices."""
    known: dict[tuple[int, int], int] = {}  # (packed index of the token before, token) to packed index
    tokens: list[int] = []
    positions: list[int] = []
    packed: list[Sequence[int]] = []
    for row in rows:
        places: list[int] = []
        for position, token in enumerate(row):
            before = places[-1] if places else -1
            place = known.setdefault((before, token), len(tokens))
            if place == len(tokens):
                tokens.append(token)
                positions.append(position)
            places.append(place)
        packed.append(places)
    return tokens, positions, packed
