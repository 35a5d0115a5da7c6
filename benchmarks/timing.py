"""Seconds and tokens of steps, and what two lists of them say of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One whole training step."""

    seconds: float
    """Rollout, rewards, update and record, by the wall clock."""
    tokens: int
    """Sampled completion tokens."""


def median_seconds(steps: Sequence[StepTime]) -> float:
    """Of a step."""
    return median(step.seconds for step in steps)


def steps_per_minute(steps: Sequence[StepTime]) -> float:
    """Of the median step."""
    return 60.0 / median_seconds(steps)


def tokens_per_step(steps: Sequence[StepTime]) -> float:
    """Of the median step."""
    return float(median(step.tokens for step in steps))


def speedup(ours: Sequence[StepTime], theirs: Sequence[StepTime]) -> float:
    """Ratio of steps per minute by the median step."""
    return steps_per_minute(ours) / steps_per_minute(theirs)


def best_speedup(ours: Sequence[StepTime], theirs: Sequence[StepTime]) -> float:
    """The same by the fastest step of each side, which other programs on the machine disturb least."""
    return min(step.seconds for step in theirs) / min(step.seconds for step in ours)


def work_speedup(ours: Sequence[StepTime], theirs: Sequence[StepTime]) -> float:
    """The median ratio, corrected for the work of a step: fewer tokens on one side are no speed."""
    return speedup(ours, theirs) * tokens_per_step(ours) / tokens_per_step(theirs)
