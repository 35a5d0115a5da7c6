"""A curve of many steps, thinned to what a screen can show.

The one hard idea: a bucket of steps keeps its first, smallest, largest and last point, each where it stood, and the first one that was
not finite. So a spike of a single step is still seen at any width, which a mean or every n-th point would hide. Where the smallest and the
largest of each short block stand is found once, when the block is indexed: a bucket then looks at blocks and not at steps.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = math.inf
"""Stands in a column for a figure that was not logged at that step. NaN stands for one that was not finite."""
BLOCK = 64
"""Values whose smallest and largest are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One figure over the steps."""

    steps: list[int]
    """In order."""
    values: list[float | None]
    """One for each step; None for a number that was not finite."""


def curve_of(steps: Sequence[int], values: array[float], points: int, peaks: bytes = b"") -> Curve:
    """At most about `points` of them. Both are of one length, nothing of `values` is `MISSING`, and `peaks` are theirs or left out."""
    chosen = range(len(steps)) if len(steps) <= points else _chosen(values, points, peaks)
    return Curve(steps=[steps[at] for at in chosen], values=[_shown(values[at]) for at in chosen])


def peaks_of(values: array[float]) -> bytes:
    """Where in each block the smallest and the largest value stand: two bytes a block. They mean nothing where one is not finite."""
    blocks = [values[start : start + BLOCK].tolist() for start in range(0, len(values), BLOCK)]
    return bytes(place for block in blocks for place in (block.index(min(block)), block.index(max(block))))


def without_missing(steps: array[int], values: array[float]) -> tuple[array[int], array[float]]:
    """The points that were logged."""
    if math.isfinite(sum(values)) or MISSING not in values:
        return steps, values
    there = [at for at, value in enumerate(values) if value != MISSING]
    return array("q", [steps[at] for at in there]), array("d", [values[at] for at in there])


def _chosen(values: array[float], points: int, peaks: bytes) -> list[int]:
    """Places that are kept, in order."""
    is_spoilt = not math.isfinite(sum(values))
    buckets = max(1, points // (5 if is_spoilt else 4))
    blocks = len(peaks) // 2
    if is_spoilt or blocks < buckets:
        edges = [len(values) * number // buckets for number in range(buckets + 1)]
        return [at for start, end in itertools.pairwise(edges) for at in _of_bucket(values, start, end)]
    edges = [blocks * number // buckets for number in range(buckets + 1)]
    return [at for start, end in itertools.pairwise(edges) for at in _of_blocks(values, peaks, start, end)]


def _of_blocks(values: array[float], peaks: bytes, start: int, end: int) -> list[int]:
    """Where the first, smallest, largest and last value of these blocks stand."""
    lowest = min((BLOCK * block + peaks[2 * block] for block in range(start, end)), key=values.__getitem__)
    highest = max((BLOCK * block + peaks[2 * block + 1] for block in range(start, end)), key=values.__getitem__)
    return sorted({BLOCK * start, lowest, highest, min(BLOCK * end, len(values)) - 1})


def _of_bucket(values: array[float], start: int, end: int) -> list[int]:
    """The same, value by value; and where the first one stands that is not finite."""
    bucket = values[start:end].tolist()
    if math.isfinite(sum(bucket)):
        return sorted({start, start + bucket.index(min(bucket)), start + bucket.index(max(bucket)), end - 1})
    finite = [at for at in range(start, end) if not math.isnan(values[at])]
    spoilt = [at for at in range(start, end) if math.isnan(values[at])][:1]
    ends = {finite[0], min(finite, key=values.__getitem__), max(finite, key=values.__getitem__), finite[-1]} if finite else set()
    return sorted({*ends, *spoilt})


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value
