"""Means and variances of whatever was recorded.

The one hard idea: a number may be finite and its square, or the sum of two of them, may not. A statistic must not end a training, nor a
page about one: what lies beyond every float becomes infinite here, and null in a record, and is never an exception.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any, TypeGuard

MOST = sys.float_info.max
NUMBERS = (int, float)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number that a float can hold."""
    return isinstance(value, NUMBERS) and -MOST <= value <= MOST


def finite(values: Sequence[Any]) -> list[float]:
    """The values that are, in order."""
    try:
        return [value for value in values if value is not None and math.isfinite(value)]
    except (OverflowError, TypeError):  # a whole number that is no float any more, or no number: the slow way
        return [value for value in values if is_finite(value)]


def mean(values: Sequence[float]) -> float:
    """Of at least one number; of finite ones always finite."""
    try:
        return fmean(values)
    except (OverflowError, ValueError):  # the sum is beyond every float, or infinite both ways
        return sum(value / len(values) for value in values)


def variance(values: Sequence[float]) -> float:
    """Of a sample; 0 of a single number."""
    middle = mean(values)  # the library's variance is exact, and takes as long as everything else that a step records
    return sum((value - middle) * (value - middle) for value in values) / max(1, len(values) - 1)
