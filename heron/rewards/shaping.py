"""Small pushes on the shape of an answer: not too long, not the same thing over and over.

The hard idea: shaping may never outweigh being right, so both only take away, at most 1, and nothing while an answer is as it should be.
Give them a small weight. Settings stand in the name: `shaping.overlong(most=512, buffer=128)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heron.errors import ConfigError
from heron.rewards.calling import takes_away


def overlong(most: int = 512, buffer: int = 128) -> Callable[..., float]:
    """0 up to `most - buffer` sampled tokens, then in a straight line down to -1 at `most` (DAPO, arXiv 2503.14476, equation 13)."""
    if not 0 < buffer <= most:
        raise ConfigError(f"shaping.overlong needs 0 < buffer <= most, but buffer is {buffer} and most is {most}. "
                          "Set most to rollout.max_completion_length, and buffer to a quarter of it.")

    @takes_away
    def overlong(completion_ids: Sequence[int]) -> float:
        return -min(1.0, max(0, len(completion_ids) - (most - buffer)) / buffer) + 0.0

    return overlong


def repetition(words: int = 4, free: float = 0.2) -> Callable[..., float]:
    """Minus the share of runs of so many words that were said before, once it is above `free`; at least -1, else 0."""
    if words < 1 or not 0 <= free < 1:
        raise ConfigError(f"shaping.repetition needs words >= 1 and 0 <= free < 1, but they are {words} and {free}.")

    @takes_away
    def repetition(completion: str) -> float:
        said = completion.casefold().split()
        runs = [tuple(said[start : start + words]) for start in range(len(said) - words + 1)]
        repeated = 1 - len(set(runs)) / len(runs) if runs else 0.0
        return -repeated if repeated > free else 0.0

    return repetition
