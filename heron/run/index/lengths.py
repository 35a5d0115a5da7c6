"""How long the answers of some steps are, the right ones beside the others.

The one hard idea: beyond some hundred thousand answers a histogram looks the same if one step in n is counted, so no more are
counted, and `Lengths.every` says so.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass

from heron.run.index.rows import VERDICTS
from heron.run.index.store import Store

MOST = 400_000
"""Answers that are counted, about."""
FEWEST = 20
"""Steps that are counted, about, however many answers they have."""
SHUFFLED = "(step * 2654435761 / 65536)"
"""Steps without the rhythm in which they may have been recorded (Knuth's multiplicative hash)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A histogram in tokens."""

    edges: list[int]
    """Where the bins begin, and where the last one ends; empty if there are no answers."""
    right: list[int]
    """Right answers in each bin."""
    not_right: list[int]
    """Wrong and unreadable ones."""
    unknown: list[int]
    """Those of which it is not known."""
    every: int
    """1: each of the steps was counted; 3: one in three."""


def lengths(store: Store, first: int, last: int, bins: int) -> Lengths:
    """Of the steps from `first` to `last`, both included."""
    ((steps, size),) = store.rows("SELECT count(*), total(length(lengths)) FROM files WHERE step BETWEEN ? AND ?", first, last)
    every = max(1, min(math.ceil(size / array("q").itemsize / MOST), steps // FEWEST))
    packed = store.rows(f"SELECT lengths FROM files WHERE step BETWEEN ? AND ? AND {SHUFFLED} % ? = 0", first, last, every)
    return histogram(Counter(array("q", b"".join([data for (data,) in packed]))), bins, every)


def histogram(counts: Counter[int], bins: int, every: int = 1) -> Lengths:
    """Bins of one width. `counts` has lengths with their verdicts, as they are stored."""
    if not counts:
        return Lengths(edges=[], right=[], not_right=[], unknown=[], every=every)
    low, high = min(counts) // 4, max(counts) // 4
    width = -(-(high - low + 1) // bins)
    number = -(-(high - low + 1) // width)
    piles = {verdict: [0] * number for verdict in VERDICTS}
    for value, count in counts.items():
        piles[VERDICTS[value % 4]][(value // 4 - low) // width] += count
    return Lengths(
        edges=[low + width * place for place in range(number + 1)], right=piles["right"], unknown=piles[None], every=every,
        not_right=[wrong + unreadable for wrong, unreadable in zip(piles["wrong"], piles["unreadable"], strict=True)],
    )  # fmt: skip
