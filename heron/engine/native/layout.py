"""From rows and their pages to the tables that paged attention reads. Numpy: it is made anew whenever a row grows by a page.

The one hard idea: two regions, the pages that one row owns and the pages that siblings share. In a region every page has as many
places for readers as the page with the most readers needs; a place that stays empty stands for row 0 and is added up by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

from heron.engine.native.sequence import Branch
from heron.kernels.paged import PageTable, Region

NOWHERE = 1 << 40
"""Number of a page (of its row) that nobody reads: behind every query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A region of pages as the masks need it."""

    begins: Tensor
    """`[n]` position of each page's first token; NOWHERE if nobody reads it."""
    rows: Tensor
    """`[n, R]` the row behind each reader's place (any, where nobody takes it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which rows read which pages: all that stays the same until rows or pages change."""

    parts: tuple[Part, ...]
    """Regions, for masks."""
    last_pages: Tensor
    """`[B]` the page that each row writes to."""
    readers: tuple[_Readers, ...]
    """Regions, for tables."""
    tables: dict[int, PageTable] = field(default_factory=dict)
    """Made so far, by number of key heads."""

    def table(self, heads: int) -> PageTable:
        """For attention in a layer of K key heads."""
        if heads not in self.tables:
            self.tables[heads] = _table(self.readers, heads, self.last_pages.device)
        return self.tables[heads]


def layout_of(branches: Sequence[Branch], page_size: int, device: torch.device) -> Layout:
    """The layout of rows in this order; each has pages of its own."""
    own = _Readers.of([branch.own for branch in branches], [len(branch.shared) for branch in branches])
    kinds = (own, _Readers.of([branch.shared for branch in branches], [0] * len(branches)))
    readers = tuple(kind for kind in kinds if len(kind.pages))
    grids = [kind.grid() for kind in readers]
    return Layout(
        parts=tuple(Part(begins=_tensor(begins * page_size, device), rows=_tensor(rows, device)) for rows, begins in grids),
        last_pages=torch.tensor([branch.own[-1] for branch in branches], device=device), readers=readers,
    )


def _table(readers: Sequence[_Readers], heads: int, device: torch.device) -> PageTable:
    regions: list[Region] = []
    lines: list[numpy.ndarray] = []
    taken = 0
    for kind in readers:
        region, places = kind.region(heads, device)
        first = lines[0][:, :1] if lines else 0  # a row always has pages of its own, perhaps no others
        lines.append(numpy.where(places < 0, first, places + taken))
        regions.append(region)
        taken += len(region.units)
    return PageTable(regions=tuple(regions), places=_tensor(numpy.concatenate(lines, axis=1), device))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readers:
    """One line per page and row that reads it, rows in order."""

    pages: numpy.ndarray
    ranks: numpy.ndarray  # the how-manieth reader of its page
    rows: numpy.ndarray
    numbers: numpy.ndarray  # the how-manieth page of its row
    count: int  # rows in all

    @classmethod
    def of(cls, tables: Sequence[Sequence[int]], firsts: Sequence[int]) -> _Readers:
        """`firsts`: number of the first page of each row's list."""
        pages = numpy.array([page for table in tables for page in table], dtype=numpy.int64)
        order = numpy.argsort(pages, kind="stable")
        ranks = numpy.empty_like(order)
        ranks[order] = numpy.arange(len(order)) - numpy.searchsorted(pages[order], pages[order])
        return cls(
            pages=pages, ranks=ranks, rows=numpy.repeat(numpy.arange(len(tables)), [len(table) for table in tables]),
            numbers=numpy.array([n for table, first in zip(tables, firsts, strict=True) for n in range(first, first + len(table))]),
            count=len(tables),
        )

    @property
    def low(self) -> int:
        """The lowest page."""
        return int(self.pages.min())

    @property
    def most(self) -> int:
        """R: the most readers of a page."""
        return int(self.ranks.max()) + 1

    def grid(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """`[n, R]` rows and `[n]` numbers of pages, over the whole range."""
        span = int(self.pages.max()) - self.low + 1
        rows = numpy.zeros((span, self.most), dtype=numpy.int64)
        rows[self.pages - self.low, self.ranks] = self.rows
        numbers = numpy.full(span, NOWHERE, dtype=numpy.int64)
        numbers[self.pages - self.low] = self.numbers
        return rows, numbers

    def region(self, heads: int, device: torch.device) -> tuple[Region, numpy.ndarray]:
        """For attention; and `[B K, W]` the places of each unit, -1 where it has none, the last one repeated."""
        rows, _ = self.grid()
        each = numpy.arange(heads)
        places = ((self.pages - self.low)[:, None] * heads + each) * self.most + self.ranks[:, None]  # [readers, K]
        units = (self.rows[:, None] * heads + each).flatten()
        members = places.flatten()[numpy.argsort(units, kind="stable")]
        counts = numpy.bincount(units, minlength=self.count * heads)
        offsets = numpy.cumsum(counts) - counts
        columns = numpy.minimum(numpy.arange(counts.max()), counts[:, None] - 1)  # [B K, W]
        region = Region(
            pages=slice(self.low, self.low + len(rows)), units=_tensor((rows[:, None, :] * heads + each[None, :, None]).flatten(), device),
            members=_tensor(members, device), offsets=_tensor(offsets, device),
        )
        return region, numpy.where(columns < 0, -1, members[(offsets[:, None] + columns) % len(members)])


def _tensor(array: numpy.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numpy.ascontiguousarray(array)).to(device)
