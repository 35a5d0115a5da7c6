"""From rows and their pages to attention: `DecodePlan` over `layout_of` against a loop over rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from heron.engine.native.decode import DecodePlan
from heron.engine.native.layout import Layout, layout_of
from heron.engine.native.sequence import Branch, new_sequence
from heron.engine.native.store import Store

SIZE = 4
CPU = torch.device("cpu")


def random_rows(seed: int, count: int) -> list[Branch]:
    """Rows of three groups on pages in any order, with holes; groups share none to three pages, some rows one more."""
    draw = random.Random(seed)
    pages = list(range(80))
    draw.shuffle(pages)
    rows = []
    shared: list[list[int]] = [[pages.pop() for _ in range(draw.randint(0, 3))] for _ in range(3)]
    for number in range(count):
        table = shared[number % 3]
        if number % 4 == 0:
            table = shared[number % 3] = [*table, pages.pop()] if table else table
        own = [pages.pop() for _ in range(draw.randint(1, 4))]
        length = SIZE * (len(table) + len(own) - 1) + draw.randint(0, SIZE - 1)
        rows.append(Branch(sequences=[new_sequence(0, 0, (1,), 0, None)], shared=list(table), own=own, length=length))
    return rows


def expected(store: Store, layer: int, query: Tensor, rows: Sequence[Branch], window: int | None, softcap: float | None) -> Tensor:
    """One row and head after the other; the new token's key and value are in the store already."""
    output = []
    for number, row in enumerate(rows):
        keys, values = store.read(layer, torch.tensor([*row.shared, *row.own]), row.length + 1)
        first = 0 if window is None else max(0, row.length + 1 - window)
        keys, values = (x[first:].repeat_interleave(query.shape[1] // x.shape[1], 1).float() for x in (keys, values))
        scores = torch.einsum("hd,jhd->hj", query[number, :, 0].float(), keys) * 0.3
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        output.append(torch.einsum("hj,jhe->he", scores.softmax(-1), values))
    return torch.stack(output)[:, :, None]


def filled(heads: Sequence[int], dtype: torch.dtype) -> Store:
    """A store whose every cell holds something, in layers of so many key heads."""
    store, generator = Store(80, SIZE), torch.Generator().manual_seed(0)
    for layer, count in enumerate(heads):
        nothing, first = torch.zeros(1, count, 4, dtype=dtype), torch.tensor([0])
        store.write(layer, nothing, nothing, first, first)
        for tensor in (store.keys[layer], store.values[layer]):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return store


def attend(plan: DecodePlan, layer: int, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
    """With rows first, `[B, H, 1, d]`: a plan takes them side by side, `[1, H, B, d]`."""
    return plan.attend(layer, *(part.permute(2, 1, 0, 3) for part in (query, key, value)), **how).permute(2, 1, 0, 3)


def plan_of(store: Store, layout: Layout, rows: Sequence[Branch]) -> DecodePlan:
    positions = torch.tensor([row.length for row in rows])
    return DecodePlan(store=store, layout=layout, positions=positions, offsets=positions % SIZE)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_row_attends_to_its_own_pages(seed: int, count: int, dtype: torch.dtype) -> None:
    """Layers of different windows and key heads go by one layout, one of them twice.

    Prevents: a mask or table kept for one layer and used in another, a page read at another row's place, windows off by one.
    """
    rows = random_rows(seed, count)
    layers = ((2, None, None), (2, 3, None), (1, None, 2.0), (2, 6, 2.0), (1, 1, None), (4, 9, None), (2, None, None))
    store = filled([heads for heads, _, _ in layers], dtype)
    plan = plan_of(store, layout_of(rows, SIZE, CPU), rows)
    generator = torch.Generator().manual_seed(seed)
    for layer, (heads, window, softcap) in enumerate(layers):
        query = torch.randn(count, 4, 1, 4, generator=generator).to(dtype)
        key, value = (torch.randn(count, heads, 1, 4, generator=generator).to(dtype) for _ in range(2))
        output = attend(plan, layer, query, key, value, scaling=0.3, window=window, softcap=softcap)
        for number, row in enumerate(rows):
            assert torch.equal(store.keys[layer][row.own[-1], :, row.length % SIZE], key[number, :, 0].to(store.keys[layer].dtype))
        wanted = expected(store, layer, query, rows, window, softcap)
        assert float((output.float() - wanted).abs().max()) < (1e-5 if dtype is torch.float32 else 3e-2)


def test_one_layout_for_many_tokens() -> None:
    """Prevents: masks of the last token used for the next one."""
    rows = random_rows(1, 9)
    for row in rows:
        row.length -= row.length % SIZE  # all have room for some more
    store, layout = filled([2], torch.float32), layout_of(rows, SIZE, CPU)
    generator = torch.Generator().manual_seed(0)
    for _ in range(SIZE):
        plan = plan_of(store, layout, rows)
        query, key, value = (torch.randn(len(rows), heads, 1, 4, generator=generator) for heads in (4, 2, 2))
        output = attend(plan, 0, query, key, value, scaling=0.3, window=5)
        assert float((output - expected(store, 0, query, rows, 5, None)).abs().max()) < 1e-5
        for row in rows:
            row.length += 1


def test_scores_far_apart() -> None:
    """Prevents: a row whose scale leaves out its shared pages, or is another's: overflow as soon as scores are some hundreds apart."""
    rows = random_rows(1, 11)
    store = filled([2], torch.float32)
    plan = plan_of(store, layout_of(rows, SIZE, CPU), rows)
    shared = sorted({page for row in rows for page in row.shared})
    store.keys[0][shared] *= 1000
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(len(rows), heads, 1, 4, generator=generator) for heads in (4, 2, 2))
    output = attend(plan, 0, query, key, value, scaling=0.3, window=None)
    assert float((output - expected(store, 0, query, rows, None, None)).abs().max()) < 1e-3


def test_only_new_cells_are_written() -> None:
    """Prevents: a new token that overwrites what another row reads."""
    rows = random_rows(2, 11)
    store = filled([2], torch.float32)
    before = store.keys[0].clone()
    plan = plan_of(store, layout_of(rows, SIZE, CPU), rows)
    attend(plan, 0, torch.randn(11, 2, 1, 4), torch.randn(11, 2, 1, 4), torch.randn(11, 2, 1, 4), scaling=1.0, window=None)
    changed = (store.keys[0] != before).any(-1).any(1).nonzero().tolist()
    assert sorted(map(tuple, changed)) == sorted((row.own[-1], row.length % SIZE) for row in rows)


def test_copies_read_all_before_they_write() -> None:
    """Prevents: a page copied over the source of the next copy."""
    store = filled([1, 2], torch.float32)
    before = {layer: (store.keys[layer].clone(), store.values[layer].clone()) for layer in (0, 1)}
    moves = [(0, 1), (1, 2), (2, 0), (5, 6), (5, 7)]
    store.copy(moves)
    for layer, (keys, values) in before.items():
        for page, to in moves:
            assert torch.equal(store.keys[layer][to], keys[page])
            assert torch.equal(store.values[layer][to], values[page])
        assert torch.equal(store.keys[layer][8:], keys[8:])
