"""Paged attention against a loop over rows and heads, with tables built by plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heron.kernels.packed_tiles import wide
from heron.kernels.paged import PageTable, Region, paged_attention

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}
EMPTY = -1
"""Row of a reader's place that nobody takes."""


def naive(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, *, scaling: float, softcap: float | None) -> Tensor:
    """`seen [B, P, s]`: the tokens of all pages that each row attends to."""
    group = query.shape[1] // keys.shape[1]
    output = query.new_zeros(*query.shape[:2], values.shape[3], dtype=torch.float64)
    for row, head in torch.cartesian_prod(torch.arange(query.shape[0]), torch.arange(query.shape[1])).tolist():
        key, value = (x[:, head // group][seen[row]].double() for x in (keys, values))
        scores = key @ query[row, head].double() * scaling
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        output[row, head] = scores.softmax(0) @ value
    return output


def readers_of(reads: Tensor, region: slice) -> list[list[int]]:
    """Rows that read each page of a region, filled up to as many as its most read page has."""
    lists = [reads[:, page].nonzero().flatten().tolist() for page in range(region.start, region.stop)]
    most = max(map(len, lists))
    return [rows + [EMPTY] * (most - len(rows)) for rows in lists]


def table_of(reads: Tensor, regions: list[slice], heads: int) -> PageTable:
    """`reads [B, P]`. Empty places stand for the last unit, which is as good as any."""
    made, places = [], [[] for _ in range(len(reads) * heads)]
    taken = 0
    for region in regions:
        readers = readers_of(reads, region)
        units = [row * heads + head if row != EMPTY else EMPTY for rows in readers for head in range(heads) for row in rows]
        mine = [[place for place, unit in enumerate(units) if unit == wanted] for wanted in range(len(places))]
        offsets = [sum(map(len, mine[:unit])) for unit in range(len(mine))]
        made.append(Region(
            pages=region, units=torch.tensor(units) % len(places), members=torch.tensor([place for unit in mine for place in unit]),
            offsets=torch.tensor(offsets),
        ))
        for unit, its_places in enumerate(mine):
            places[unit] += [taken + place for place in its_places]
        taken += len(units)
    width = max(map(len, places))
    return PageTable(regions=tuple(made), places=torch.tensor([line + line[:1] * (width - len(line)) for line in places]))


def hidden_of(reads: Tensor, seen: Tensor, region: slice, heads: int, group: int, dtype: torch.dtype, *, alike: bool) -> Tensor:
    """`[n K, 1 or R g, s]`. What empty places see makes no difference: here they see everything."""
    lines = []
    for page, rows in zip(range(region.start, region.stop), readers_of(reads, region), strict=True):
        shown = [seen[row, page] if row != EMPTY else torch.ones_like(seen[0, 0]) for row in rows]
        lines += [torch.stack(shown[:1] if alike else shown).repeat_interleave(1 if alike else group, 0)] * heads
    return torch.zeros(len(lines), *lines[0].shape, dtype=dtype).masked_fill_(~torch.stack(lines), float("-inf"))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("heads", "group", "width", "value_width"), [(1, 1, 4, 4), (2, 3, 4, 6), (3, 2, 8, 2)])
def test_equals_naive(dtype: torch.dtype, softcap: float | None, heads: int, group: int, width: int, value_width: int) -> None:
    """Ragged rows, holes that hold anything, pages of one to three readers, pages of which a reader sees nothing, a last page in part.

    Prevents: sums over another row's places, a softmax over one region only, wrong head groups, a softcap behind the mask.
    """
    generator = torch.Generator().manual_seed(heads)
    query = torch.randn(5, heads * group, width, generator=generator).mul_(2).to(dtype)
    keys = torch.randn(13, heads, 3, width, generator=generator).mul_(2).to(wide(dtype))
    values = torch.randn(13, heads, 3, value_width, generator=generator).to(dtype)
    own = {0: [1, 2], 1: [3], 2: [5, 7, 6], 3: [0], 4: [8]}  # page 4 is a hole
    shared = {0: [12, 11], 1: [12, 11], 3: [12], 4: [9]}  # page 10 is a hole
    keys[[4, 10]] = 1e4
    reads, seen = torch.zeros(5, 13, dtype=torch.bool), torch.zeros(5, 13, 3, dtype=torch.bool)
    for row in range(5):
        reads[row, own[row] + shared.get(row, [])] = True
        seen[row, own[row][:-1] + shared.get(row, [])] = True
        seen[row, own[row][-1], : row % 3 + 1] = True
    seen[2, 5] = False  # before its window
    regions = [slice(0, 9), slice(9, 13)]
    hidden = [hidden_of(reads, seen, region, heads, group, wide(dtype), alike=region.start > 0) for region in regions]
    output = paged_attention(
        query, keys, values, table_of(reads, regions, heads), [hidden[0], hidden[1]], scaling=0.4, softcap=softcap
    )
    expected = naive(query, keys, values, seen, scaling=0.4, softcap=softcap)
    assert output.dtype is dtype
    assert float((output.double() - expected).abs().max()) < TOLERANCE[dtype]


def test_readers_of_a_page_see_it_differently() -> None:
    """Prevents: one mask for all readers where a window ends within a shared page at another token for each."""
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(*shape, generator=generator) for shape in ((3, 4, 4), (3, 2, 4, 4), (3, 2, 4, 4)))
    reads = torch.tensor([[True, True, False], [True, False, True], [True, False, False]])
    seen = torch.rand(3, 3, 4, generator=generator) > 0.5
    seen[:, 0, 1], seen[1, 0] = True, False
    seen &= reads[..., None]
    seen[1, 2, 3] = True
    hidden = hidden_of(reads, seen, slice(0, 3), 2, 2, torch.float32, alike=False)
    output = paged_attention(query, keys, values, table_of(reads, [slice(0, 3)], 2), [hidden], scaling=0.5)
    assert float((output - naive(query, keys, values, seen, scaling=0.5, softcap=None)).abs().max()) < 2e-6


def test_scores_far_apart() -> None:
    """Prevents: each region on its own scale: a score of 300 in one and of -300 in the other overflow, or give 0 / 0."""
    keys = torch.tensor([300.0, -300.0, -301.0]).view(3, 1, 1, 1)
    values = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    reads = torch.tensor([[True, False, True], [False, True, True]])
    regions = [slice(0, 2), slice(2, 3)]
    seen = reads[..., None]
    hidden = [hidden_of(reads, seen, region, 1, 1, torch.float32, alike=True) for region in regions]
    output = paged_attention(torch.ones(2, 1, 1), keys, values, table_of(reads, regions, 1), hidden, scaling=1.0)
    expected = naive(torch.ones(2, 1, 1), keys, values, seen, scaling=1.0, softcap=None)
    assert output.flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-6)
    assert output.flatten().tolist() == pytest.approx([1.0, 2.268941], abs=1e-5)


def test_inputs_are_left_alone() -> None:
    """Prevents: an operation in place that changes the cache or the query."""
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(*shape, generator=generator) for shape in ((1, 1, 4), (1, 1, 4, 4), (1, 1, 4, 4)))
    before = [x.clone() for x in (query, keys, values)]
    reads, hidden = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 4)
    outputs = [paged_attention(query, keys, values, table_of(reads, [slice(0, 1)], 1), [hidden], scaling=1.0, softcap=cap)
               for cap in (None, None, 3.0, 3.0)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[2], outputs[3])
    assert all(torch.equal(one, other) for one, other in zip(before, (query, keys, values), strict=True))
    assert not hidden.any()
