"""Closeness: more for a number that is near the reference, for tasks where nearly right is worth something.

The hard idea: what "near" means when the reference is 0, or negative. The error is measured against the reference's
size, but never against less than 1: a ratio of the two numbers would divide by 0, and call 10 and -10 equally far
from -9. Don't use it where near means nothing: years, identifiers, multiple choice.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from heron.rewards import numbers, verifying
from heron.rewards.answers import answer_text
from heron.types import Tags

BANDS = ((Fraction(0), 1.0), (Fraction(1, 10), 0.5), (Fraction(1, 5), 0.25))
"""Largest relative error, and what it pays."""
FAR = -0.5
"""Paid for a number outside all bands."""
NO_NUMBER = -1.0
"""Paid where the answer is not one number."""


STEPS = ((Fraction(0), 1.0), (Fraction(1), 0.5), (Fraction(3), 0.25), (Fraction(10), 0.0))
"""Largest absolute error, and what it pays; beyond the last one `FAR`."""


@verifying.compares_by(verifying.number)
def closeness(completion: str, answer: Any, tags: Tags, prefilled: str = "") -> float:
    """Pays by |answer - reference| / max(1, |reference|), computed exactly.

    | error          | score | examples for 10 | for 0  | for -10 |
    |----------------|-------|-----------------|--------|---------|
    | none           | 1.0   | `10`, `10.0`    | `0`    | `-10`   |
    | up to 10 %     | 0.5   | `9`, `11`       | `0.1`  | `-9`    |
    | up to 20 %     | 0.25  | `8`             | `-0.2` | `-12`   |
    | more           | -0.5  | `3`, `-10`      | `1`    | `10`    |
    | not one number | -1.0  | `ten`, `9 or 10` |       |         |
    """
    found = _found(completion, tags, prefilled)
    if found is None:
        return NO_NUMBER
    wanted = numbers.number(answer)
    return _paid(abs(found - wanted) / max(Fraction(1), abs(wanted)), BANDS)


@verifying.compares_by(verifying.number)
def distance(completion: str, answer: Any, tags: Tags, prefilled: str = "") -> float:
    """Pays by |answer - reference|, computed exactly: for counts, where being off by one means the same everywhere.

    | error          | score | examples for 1,000 | for 0   | for -3     |
    |----------------|-------|--------------------|---------|------------|
    | none           | 1.0   | `1,000`            | `0`     | `-3`       |
    | up to 1        | 0.5   | `999`              | `-1`    | `-2`       |
    | up to 3        | 0.25  | `1003`             | `2.5`   | `0`        |
    | up to 10       | 0.0   | `990`              | `10`    | `3`        |
    | more           | -0.5  | `900`              | `11`    | `300`      |
    | not one number | -1.0  | `many`             |         |            |
    """
    found = _found(completion, tags, prefilled)
    return NO_NUMBER if found is None else _paid(abs(found - numbers.number(answer)), STEPS)


def _found(completion: str, tags: Tags, prefilled: str) -> Fraction | None:
    text = answer_text(completion, tags, prefilled)
    return None if text is None else numbers.only_number(text)


def _paid(error: Fraction, bands: tuple[tuple[Fraction, float], ...]) -> float:
    return next((score for largest, score in bands if error <= largest), FAR)
