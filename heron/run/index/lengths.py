"""How long the answers of some steps are, the right ones beside the others."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass

from heron.run.index.rows import VERDICTS
from heron.run.index.store import Store


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


def lengths(store: Store, first: int, last: int, bins: int) -> Lengths:
    """Of the steps from `first` to `last`, both included."""
    packed = b"".join(data for (data,) in store.rows("SELECT lengths FROM files WHERE step BETWEEN ? AND ?", first, last))
    return histogram(Counter(array("q", packed)), bins)


def histogram(counts: Counter[int], bins: int) -> Lengths:
    """Bins of one width. `counts` has lengths with their verdicts, as they are stored."""
    if not counts:
        return Lengths(edges=[], right=[], not_right=[], unknown=[])
    low, high = min(counts) // 4, max(counts) // 4
    width = -(-(high - low + 1) // bins)
    number = -(-(high - low + 1) // width)
    piles = {verdict: [0] * number for verdict in VERDICTS}
    for value, count in counts.items():
        piles[VERDICTS[value % 4]][(value // 4 - low) // width] += count
    return Lengths(
        edges=[low + width * place for place in range(number + 1)], right=piles["right"], unknown=piles[None],
        not_right=[wrong + unreadable for wrong, unreadable in zip(piles["wrong"], piles["unreadable"], strict=True)],
    )  # fmt: skip
