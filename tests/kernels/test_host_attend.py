"""Attention through pages in C against a loop over rows and heads in float64. What no row sees is NaN, so that whoever reads it shows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy
import pytest
import torch
from torch import Tensor

from heron.kernels.host.attend import Readers, attend, readers_of
from heron.kernels.host.build import built

pytestmark = pytest.mark.skipif(built().code is None, reason=built().reason)

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One new token per row, and what lies in the pages."""

    pages: list[list[int]]
    positions: list[int]
    query: Tensor
    key: Tensor
    value: Tensor
    keys: Tensor
    values: Tensor

    def readers(self) -> Readers:
        readers = readers_of(self.pages, self.keys.shape[2])
        readers.move(self.positions)
        return readers

    def attended(
        self, *, scaling: float = 0.3, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None
    ) -> Tensor:
        return attend(
            self.query, self.key, self.value, self.keys, self.values, self.readers(), scaling=scaling, window=window, softcap=softcap,
            sinks=sinks,
        )

    def only(self, rows: list[int]) -> Step:
        """These rows, over pages that nothing was written to."""
        return Step(
            pages=[self.pages[row] for row in rows], positions=[self.positions[row] for row in rows], query=self.query[rows],
            key=self.key[rows], value=self.value[rows], keys=self.keys.clone(), values=self.values.clone(),
        )


def naive(
    step: Step, *, scaling: float = 0.3, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None
) -> Tensor:
    """In float64, over pages that new keys and values were written to."""
    rows = []
    for row, (pages, position) in enumerate(zip(step.pages, step.positions, strict=True)):
        first = max(0, position + 1 - window) if window else 0
        key, value = (x[pages].transpose(1, 2).flatten(0, 1)[first : position + 1].double() for x in (step.keys, step.values))  # [t, K, d]
        query = step.query[row, :, 0].double().unflatten(0, (key.shape[1], -1))  # [K, g, d]
        scores = torch.einsum("kgd,tkd->kgt", query, key) * scaling
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        if sinks is not None:
            scores = torch.cat([scores, sinks.double().view(*scores.shape[:2], 1)], -1)
        rows.append(torch.einsum("kgt,tke->kge", scores.softmax(-1)[..., : len(value)], value).flatten(0, 1))
    return torch.stack(rows)[:, :, None]


def step_of(
    groups: list[tuple[int, int]], *, size: int, heads: int = 6, key_heads: int = 2, width: int = 24, depth: int = 24,
    dtype: torch.dtype = torch.float32, own: int = 40, seed: int = 0,
) -> Step:
    """`groups`: rows, and the full pages that they have in common; each row goes on for up to `own` tokens. What nobody wrote is NaN."""
    torch.manual_seed(seed)
    lengths = [torch.randint(common * size + 1, common * size + own + 1, (rows,)).tolist() for rows, common in groups]
    count = sum(common + sum(-(-length // size) - common for length in its) for (_, common), its in zip(groups, lengths, strict=True))
    free = iter(torch.randperm(count + 3).tolist())
    pages: list[list[int]] = []
    keys, values = torch.full((count + 3, key_heads, size, width), NAN), torch.full((count + 3, key_heads, size, depth), NAN, dtype=dtype)
    for (_, common), its in zip(groups, lengths, strict=True):
        shared = [next(free) for _ in range(common)]
        for length in its:
            pages.append([*shared, *(next(free) for _ in range(-(-length // size) - common))])
            for token in range(length - 1):  # the last one is new
                keys[pages[-1][token // size], :, token % size] = torch.randn(key_heads, width)
                values[pages[-1][token // size], :, token % size] = torch.randn(key_heads, depth).to(dtype)
    query, key, value = (
        torch.randn(len(pages), *shape).to(dtype) for shape in ((heads, 1, width), (key_heads, 1, width), (key_heads, 1, depth))
    )
    positions = [length - 1 for its in lengths for length in its]
    return Step(pages=pages, positions=positions, query=query * 2, key=key, value=value, keys=keys, values=values)


GROUPS = [(3, 2), (1, 0), (9, 3), (2, 1)]


def assert_right(step: Step, *, window: int | None = None, softcap: float | None = None, times: float = 3) -> None:
    output = step.attended(window=window, softcap=softcap)
    assert output.shape == (len(step.pages), step.query.shape[1], 1, step.values.shape[3]) and output.dtype == step.query.dtype
    torch.testing.assert_close(output.double(), naive(step, window=window, softcap=softcap), rtol=0, atol=times * TOLERANCE[output.dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [1, 3, 16, 32])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (1, None), (5, None), (19, None), (45, 4.0), (None, 4.0)])
def test_rows_see_their_pages_and_no_more(size: int, dtype: torch.dtype, window: int | None, softcap: float | None) -> None:
    """Catches lanes behind the last token or before the window that count, and common pages at the edge of a window."""
    for seed in range(3):
        assert_right(step_of(GROUPS, size=size, dtype=dtype, seed=seed), window=window, softcap=softcap)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, 4.0)])
def test_sinks(dtype: torch.dtype, window: int | None, softcap: float | None) -> None:
    """Catches a sink of another head, in another unit than the scores, or one so large that it overflows."""
    step, sinks = step_of(GROUPS, size=16, dtype=dtype), torch.tensor([-8.0, 0.0, 1.0, 3.0, 8.0, 200.0], dtype=dtype)
    output = step.attended(window=window, softcap=softcap, sinks=sinks)
    expected = naive(step, window=window, softcap=softcap, sinks=sinks)
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=3 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("width", "depth"), [(8, 8), (64, 64), (80, 80), (64, 24), (24, 64), (7, 5)])
def test_any_width_of_keys_and_of_values(width: int, depth: int, dtype: torch.dtype) -> None:
    """Catches vectors that reach over the end of a key or of a value."""
    assert_right(step_of(GROUPS, size=32, width=width, depth=depth, dtype=dtype))


@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 4), (4, 1), (10, 2), (14, 2)])
def test_any_number_of_queries_to_a_key(heads: int, key_heads: int) -> None:
    """Catches a tile of queries that forgets the last ones or takes one twice."""
    assert_right(step_of([(1, 0), (2, 1), (7, 2), (33, 1)], size=16, heads=heads, key_heads=key_heads))


def test_scores_far_apart() -> None:
    """Catches sums that are not brought to the scale of a largest score that comes later; and a cap whose tangent is off."""
    step = step_of(GROUPS, size=16)
    step.query.mul_(30)
    for softcap in (None, 30.0, 1000.0):
        assert_right(step, softcap=softcap, times=30)  # scores of hundreds, to within a few 1e-5


def test_new_keys_and_values_are_written_and_nothing_else() -> None:
    for dtype in TOLERANCE:
        step = step_of(GROUPS, size=16, dtype=dtype)
        keys, values = step.keys.clone(), step.values.clone()
        step.attended()
        for row, position in enumerate(step.positions):
            keys[step.pages[row][position // 16], :, position % 16] = step.key[row, :, 0].float()
            values[step.pages[row][position // 16], :, position % 16] = step.value[row, :, 0]
        torch.testing.assert_close(step.keys, keys, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(step.values, values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("size", "window", "softcap"), [(32, None, None), (32, 45, 4.0), (16, 20, None), (3, None, None)])
def test_a_row_comes_out_the_same_whoever_is_beside_it(size: int, window: int | None, softcap: float | None, dtype: torch.dtype) -> None:
    """Bit for bit. Catches common pages that are added up in another order than own ones, and tiles that round differently."""
    step = step_of([(3, 2), (1, 0), (9, 3)], size=size, dtype=dtype, width=72, depth=40)
    alone = [step.only([row]) for row in range(len(step.pages))]
    some = step.only([9, 4, 5, 6, 7])
    together = step.attended(window=window, softcap=softcap)
    assert torch.equal(together, torch.cat([one.attended(window=window, softcap=softcap) for one in alone]))
    assert torch.equal(together[[9, 4, 5, 6, 7]], some.attended(window=window, softcap=softcap))


def test_threads_change_no_bit() -> None:
    """Catches memory that runs share. The work is large enough for threads."""
    step = step_of([(8, 3)] * 4, size=32, width=64, depth=64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = step.attended()
        torch.set_num_threads(4)
        assert all(torch.equal(alone, step.attended()) for _ in range(5))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("which", ["keys", "values"])
def test_nan_reaches_the_rows_that_see_it(which: str) -> None:
    """Catches NaN that is taken for a small score, and one that a window hides but that comes through a weight of zero."""
    step = step_of([(3, 2), (4, 2)], size=16, own=30)
    getattr(step, which)[step.pages[1][1], :, 10] = NAN  # token 26 of the first three rows
    seen = torch.tensor([True] * 3 + [False] * 4)
    assert torch.equal(step.attended().isnan().flatten(1).any(1), seen)
    window = max(step.positions[:3]) - 26  # the last of them does not see it
    hidden = step.attended(window=window).isnan().flatten(1)
    assert hidden.any(1).tolist() == [*(position - 26 < window for position in step.positions[:3]), False, False, False, False]
    assert hidden.all(1).equal(hidden.any(1)), "all heads or none"


def test_infinite_scores_are_not_hidden() -> None:
    step = step_of([(2, 1)], size=16)
    step.query[..., 0].abs_()
    step.key[0, 0, 0, 0] = float("inf")
    output = step.attended()
    assert output[0, :3].isnan().all(1).all() and output[0, 3:].isfinite().all() and output[1].isfinite().all()


def test_a_page_that_weighs_nothing() -> None:
    """Catches a first page of scores of minus infinity that makes all later ones NaN."""
    step = step_of([(2, 2)], size=3)
    step.query[..., 0].abs_()
    step.keys[step.pages[0][0], ..., 0] = -float("inf")
    assert step.query[..., 0].min() > 0
    assert_right(step)


def test_views_of_the_same_numbers_are_taken_as_they_are_and_others_copied() -> None:
    """The engine's query is `[B, 1, H, d]` transposed; a model with one matrix for all three has them side by side."""
    step = step_of(GROUPS, size=16)
    expected = step.only(list(range(len(step.pages)))).attended()
    for moved in (lambda x: x.transpose(1, 2).contiguous().transpose(1, 2), lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]]):
        query, key, value = map(moved, (step.query, step.key, step.value))
        output = attend(query, key, value, step.keys, step.values, step.readers(), scaling=0.3)
        assert torch.equal(output, expected)


def test_readers_move_on() -> None:
    """Catches positions that are copied where C does not look: the same readers serve step after step."""
    step = step_of([(2, 1), (1, 0)], size=16, own=12)
    readers = step.readers()
    for _ in range(3):
        attend(step.query, step.key, step.value, step.keys, step.values, readers, scaling=0.3)
        step = Step(**{name: getattr(step, name) for name in Step.__slots__} | {"positions": [n + 1 for n in step.positions]})
        readers.move(step.positions)
    output = attend(step.query, step.key, step.value, step.keys, step.values, readers, scaling=0.3)
    torch.testing.assert_close(output.double(), naive(step), rtol=0, atol=6e-6)


def test_a_position_without_a_page_is_refused() -> None:
    """C would write wherever a -1 points to."""
    readers = readers_of([[4, 7], [2]], 16)
    readers.move([31, 15])
    for positions in ([32, 3], [3, 16], [-1, 3]):
        with pytest.raises(ValueError, match="all lie in the"):
            readers.move(positions)


def saved_pages(runs: numpy.ndarray) -> int:
    return sum(common * (rows - 1) for _, rows, common in runs.tolist())


@pytest.mark.parametrize(("pages", "runs"), [
    ([[1]], [(0, 1, 0)]),
    ([[1, 2], [1, 3], [4]], [(0, 2, 1), (2, 1, 0)]),
    ([[1, 2], [1, 2]], [(0, 2, 1)]),  # the last page is never common
    ([[9, 1, 2, 3], [9, 1, 2, 4], [9, 5, 6, 7], [9, 5, 6, 8]], [(0, 2, 3), (2, 2, 3)]),  # 6 readings saved, and together 3
    ([[9, 1, 2], [9, 3, 4], [9, 5, 6]], [(0, 3, 1)]),
    ([[7, number] for number in range(40, 80)], [(0, 32, 1), (32, 8, 1)]),
])
def test_runs_are_rows_with_the_same_first_pages(pages: list[list[int]], runs: list[tuple[int, int, int]]) -> None:
    found = readers_of(pages, 16).runs
    assert saved_pages(found) == saved_pages(numpy.array(runs)) and found[:, 1].sum() == len(pages)
    assert sorted(map(tuple, found.tolist())) == runs or len(pages) == 40  # where to cut forty is a matter of taste


def test_no_way_to_cut_rows_into_runs_saves_more() -> None:
    """Against all ways, for rows that branch at random."""
    generator = numpy.random.default_rng(0)
    for _ in range(50):
        pages = [[*map(int, numpy.cumprod(generator.integers(1, 3, size=3))), 100 + row] for row in range(6)]
        lengths = [4 - int(n) for n in generator.integers(0, 3, size=6)]
        pages = [line[:length] for line, length in zip(pages, lengths, strict=True)]
        best = 0
        for cuts in itertools.product([False, True], repeat=5):
            bounds = [0, *(n + 1 for n, cut in enumerate(cuts) if cut), 6]
            best = max(best, sum(common_pages(pages[a:b]) * (b - a - 1) for a, b in itertools.pairwise(bounds)))
        assert saved_pages(readers_of(pages, 16).runs) == best


def common_pages(pages: list[list[int]]) -> int:
    """First pages that all have in common, none of them a row's last."""
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*(line[:-1] for line in pages), strict=False)))
