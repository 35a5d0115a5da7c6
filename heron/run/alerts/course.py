"""All steps of a run in a bounded number of figures, however many they are.

The one hard idea: what is said of a whole run ("never", "in each of 900 steps") must have looked at the whole run, after each step and at
no cost that grows. So the steps are gathered in pieces of equal length, each the mean of its steps, and two become one where they are too
many: until then a piece is a step. What a mean would hide, the least and the largest value and how often there was one, is kept beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, TypeGuard

from heron.run.alerts.peak import Peak

PIECES = 256
"""So many become half as many of twice the length."""
FIRST = 5
"""First values that are kept of each number."""
SHARES = ("groups/with_signal", "groups/mixed", "groups/all_right")
FOLLOWED = frozenset({
    *SHARES, "reward", "reward_std", "pass@1", "completions/unreadable", "completions/clipped_ratio",
    "completions/max_length", "completions/mean_length", "completions/format_rate", "entropy", "learning_rate",
})
"""What is kept, beside every number of each reward function."""
HUGE = 1e150
SKILL = "skill"
"""Kept beside what is logged: right answers among those that can be read, what is left of pass@1 when the format is taken out of it."""

Numbers = dict[str, float]


class Course:
    """A run as its alerts see it, fed step by step."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.steps = 0
        """How many there were."""
        self.count: dict[str, int] = {}
        """How many of them have this number."""
        self.low: Numbers = {}
        self.high: Numbers = {}
        self.first: dict[str, list[float]] = {}
        """The first values of each number."""
        self.peak = Peak()
        self._pieces: list[Numbers] = []
        self._length = 1
        self._waiting: list[Numbers] = []
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """The next step."""
        self.steps += 1
        numbers = _numbers(record)
        self._note(numbers)
        if "reward" in numbers:
            varies = "groups/carried" in record  # from step to step: the groups of one tell nothing of another
            shares = [] if varies else [numbers.get(key, 0.0) for key in SHARES]
            self.peak.add(record.get("step", self.steps), numbers["reward"], numbers.get("reward_std", 0.0), shares)
        self._waiting.append(numbers)
        if len(self._waiting) == self._length:
            self._pieces.append(_mean(self._waiting))
            self._waiting = []
        if len(self._pieces) == PIECES:
            self._pieces = [_mean(self._pieces[at : at + 2]) for at in range(0, PIECES, 2)]
            self._length *= 2

    def values(self, key: str) -> list[float]:
        """This number over the run, in pieces of equal length; of at most so many steps that each is a piece, every value."""
        return [piece[key] for piece in self._pieces if key in piece]

    def _note(self, numbers: Numbers) -> None:
        count, low, high = self.count, self.low, self.high
        for key, value in numbers.items():
            if key not in count:
                count[key], low[key], high[key], self.first[key] = 0, value, value, []
            count[key] += 1
            if count[key] <= FIRST:
                self.first[key].append(value)
            if value < low[key]:
                low[key] = value
            elif value > high[key]:
                high[key] = value


def is_followed(key: str) -> bool:
    """Whether a number of this name is kept."""
    return key in FOLLOWED or key.startswith("rewards/")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it can be reckoned with: null stands for what was not finite, and the square of what is larger would not be."""
    return isinstance(value, float | int) and -HUGE < value < HUGE


def _numbers(record: Mapping[str, Any]) -> Numbers:
    """What is followed and can be reckoned with, and the share of right answers among those that can be read."""
    numbers = {key: value for key, value in record.items() if is_followed(key) and is_number(value)}
    right, readable = numbers.get("pass@1"), 1 - numbers.get("completions/unreadable", 0.0)
    if right is not None and readable > 0.05:
        numbers[SKILL] = right / readable
    return numbers


def _mean(pieces: list[Numbers]) -> Numbers:
    """Of each number over the pieces that have it."""
    if len(pieces) == 1:
        return pieces[0]
    keys = dict.fromkeys(key for piece in pieces for key in piece)
    return {key: fmean(piece[key] for piece in pieces if key in piece) for key in keys}
