"""A curve of many steps, thinned to what a screen can show.

The one hard idea: a bucket of steps keeps its first, smallest, largest and last point, each where it stood, and the first one that was
not finite. So a spike of a single step is still seen at any width, which a mean or every n-th point would hide.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = math.inf
"""Stands in a column for a figure that was not logged at that step. NaN stands for one that was not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One figure over the steps."""

    steps: list[int]
    """In order."""
    values: list[float | None]
    """One for each step; None for a number that was not finite."""


def curve_of(steps: Sequence[int], values: array[float], points: int) -> Curve:
    """At most about `points` of them. Both are of one length, and nothing of `values` is `MISSING`."""
    chosen = range(len(steps)) if len(steps) <= points else _chosen(values, points)
    return Curve(steps=[steps[at] for at in chosen], values=[_shown(values[at]) for at in chosen])


def without_missing(steps: array[int], values: array[float]) -> tuple[array[int], array[float]]:
    """The points that were logged."""
    if math.isfinite(sum(values)) or MISSING not in values:
        return steps, values
    there = [at for at, value in enumerate(values) if value != MISSING]
    return array("q", [steps[at] for at in there]), array("d", [values[at] for at in there])


def _chosen(values: array[float], points: int) -> list[int]:
    """Places that are kept, in order."""
    is_spoilt = math.isnan(sum(values))
    buckets = max(1, points // (5 if is_spoilt else 4))
    edges = [len(values) * number // buckets for number in range(buckets + 1)]
    keep = _of_spoilt_bucket if is_spoilt else _of_bucket
    return [at for start, end in itertools.pairwise(edges) for at in keep(values, start, end)]


def _of_bucket(values: array[float], start: int, end: int) -> list[int]:
    """Where its first, smallest, largest and last value stand."""
    bucket = values[start:end]
    return sorted({start, start + bucket.index(min(bucket)), start + bucket.index(max(bucket)), end - 1})


def _of_spoilt_bucket(values: array[float], start: int, end: int) -> list[int]:
    """The same among the finite ones, and the first that is not."""
    finite = [at for at in range(start, end) if not math.isnan(values[at])]
    spoilt = [at for at in range(start, end) if math.isnan(values[at])][:1]
    if not finite:
        return spoilt
    ends = {finite[0], min(finite, key=values.__getitem__), max(finite, key=values.__getitem__), finite[-1]}
    return sorted({*ends, *spoilt})


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value
