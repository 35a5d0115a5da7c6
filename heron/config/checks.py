"""What a section asks of its settings when it is made: a claim that holds, or an error that says what to give instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from heron.errors import ConfigError, did_you_mean

MOST_SEED = 2**31 - 1
"""Seeds of steps are made from the run's by a multiplication, whose product must fit into the generators' 63 bits."""


def require(claim: bool, what: str, given: object, fix: str) -> None:
    if not claim:
        raise ConfigError(f"{what}, but it is {given!r}. {fix}")


def one_of(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, but it is {given!r}.{did_you_mean(given, choices)}")


def check_finite(name: str, section: Any) -> None:
    """No setting of the section is infinite or NaN: such a value passes comparisons, or spoils a run without a word."""
    for setting in fields(section):
        value = getattr(section, setting.name)
        for number in value if isinstance(value, tuple) else (value,):
            is_finite = not isinstance(number, float) or math.isfinite(number)
            require(is_finite, f"{name}.{setting.name} must be finite", number, "Give an ordinary number.")


def check_seed(name: str, seed: int) -> None:
    require(0 <= seed <= MOST_SEED, f"{name} must lie between 0 and {MOST_SEED}", seed, "Any seed is as good as another.")
