"""Few combinations of many options: every two values of two options meet in at least one of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Combination = dict[str, Any]
TRIES = 40


def pairwise(options: Mapping[str, Sequence[Any]], is_allowed: Callable[[Combination], bool], *, seed: int = 0) -> list[Combination]:
    """Combinations that are allowed and cover every pair of values that any allowed one can hold. Greedy; the same each time."""
    draw = random.Random(seed)
    waiting = [pair for left, right in itertools.combinations(options, 2) for pair in _pairs(options, left, right)]
    made: list[Combination] = []
    while waiting:
        tries = [_complete(dict(waiting[0]), options, draw) for _ in range(TRIES)]
        candidates = [each for each in tries if is_allowed(each)]
        if not candidates:  # two values that exclude one another
            waiting.pop(0)
            continue
        best = max(candidates, key=lambda each: sum(_holds(each, pair) for pair in waiting))
        waiting = [pair for pair in waiting if not _holds(best, pair)]
        made.append(best)
    return made


def _pairs(options: Mapping[str, Sequence[Any]], left: str, right: str) -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    return (((left, a), (right, b)) for a in options[left] for b in options[right])


def _complete(fixed: Combination, options: Mapping[str, Sequence[Any]], draw: random.Random) -> Combination:
    return {name: fixed.get(name, draw.choice(values)) for name, values in options.items()}


def _holds(combination: Combination, pair: Sequence[tuple[str, Any]]) -> bool:
    return all(combination[name] == value for name, value in pair)
