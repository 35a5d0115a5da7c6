"""Thinned curves: whatever stands out of a curve stands out of what is left of it."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from heron.run.index.thinning import MISSING, curve_of, peaks_of, without_missing


@pytest.mark.parametrize("place", [0, 1, 4999, 9998, 9999])
@pytest.mark.parametrize("spike", [1e6, -1e6, math.nan])
def test_a_spike_of_one_step_is_still_seen(place: int, spike: float) -> None:
    """Prevents: a mean, or every n-th point, which would hide the step at which training broke."""
    source = random.Random(0)
    values = array("d", [source.random() for _ in range(10000)])
    values[place] = spike
    for peaks in (b"", peaks_of(values)):
        curve = curve_of(range(1, 10001), values, 200, peaks)
        assert len(curve.steps) <= 200
        assert curve.values[curve.steps.index(place + 1)] == (None if math.isnan(spike) else spike)


def test_what_is_kept_is_true_and_in_order() -> None:
    """Prevents: a point at a step that has another value; also a last step that is missing."""
    values = array("d", [math.sin(at / 50) for at in range(5001)])
    for points, peaks in ((333, b""), (300, peaks_of(values))):
        curve = curve_of(range(5001), values, points, peaks)
        assert curve.steps == sorted(set(curve.steps)) and curve.steps[0] == 0 and curve.steps[-1] == 5000
        assert all(value == values[step] for step, value in zip(curve.steps, curve.values, strict=True))
        assert max(v for v in curve.values if v is not None) == max(values)
        assert points / 2 < len(curve.steps) <= points


def test_few_points_are_left_alone() -> None:
    curve = curve_of([3, 7], array("d", [1.0, math.nan]), 10)
    assert (curve.steps, curve.values) == ([3, 7], [1.0, None])
    assert curve_of([], array("d"), 10).steps == []


def test_a_stretch_that_was_never_finite_stays_a_gap() -> None:
    """Prevents: a line drawn across steps that had no value."""
    values = array("d", [1.0] * 4000 + [math.nan] * 2000 + [2.0] * 4000)
    curve = curve_of(range(10000), values, 100)
    gap = [value for step, value in zip(curve.steps, curve.values, strict=True) if 4000 <= step < 6000]
    assert gap and all(value is None for value in gap)


def test_steps_at_which_nothing_was_logged_are_no_points() -> None:
    steps, values = without_missing(array("q", [1, 2, 3]), array("d", [0.5, MISSING, math.nan]))
    assert list(steps) == [1, 3] and values[0] == 0.5
