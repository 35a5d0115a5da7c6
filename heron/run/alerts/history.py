"""What an alert looks at, and what it says.

The one hard idea: a figure of one step is noise. "Now" is a mean over the newest steps, and a trend is believed only if the last
quarter of a run lies three standard errors from the first. What is said of all steps was seen in all of them (`course`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from heron.run.alerts.course import FIRST, SKILL, Course, is_number
from heron.run.averages import mean, variance

WINDOW = FIRST
"""Steps that a "now" is averaged over, and a "start"."""
LONG_ENOUGH = 20
"""Steps before which a trend is not judged."""
TAIL = 128
"""Newest steps that are looked at one by one."""
MASTERED = 0.9
"""Share of right answers beyond which equal siblings are the goal and not a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that looks wrong."""

    id: str
    """Stable name, such as `no-signal`."""
    title: str
    """What is wrong, in a few words."""
    evidence: str
    """The figures that show it."""
    advice: str
    """What to try."""


class History:
    """What was recorded of a run. `metrics` holds a record per step; the newest `TAIL` will do, where `course` knows them all."""

    def __init__(
        self, *, metrics: Sequence[Mapping[str, Any]], evaluations: Mapping[str, Mapping[str, Any]] | None = None,
        checkpoint: Mapping[str, Any] | None = None, penalties: Collection[str] = (), course: Course | None = None,
    ) -> None:  # fmt: skip
        self.metrics = metrics
        self.evaluations = evaluations or {}
        """Totals of each evaluation by name, oldest first."""
        self.checkpoint = checkpoint or {}
        """The newest checkpoint's event."""
        self.penalties = penalties
        """Reward functions that are known to take away only: their best is 0."""
        self.course = course if course is not None else Course(metrics)
        """All of its steps."""
        self._found: dict[str, list[float]] = {}

    @property
    def steps(self) -> int:
        """How many were recorded."""
        return self.course.steps

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest record; empty if there is none."""
        return self.metrics[-1] if self.metrics else {}

    def values(self, key: str) -> list[float]:
        """The numbers recorded under `key` over the whole run, in order; of a long run means over pieces of it."""
        if key not in self._found:
            self._found[key] = self.course.values(key)
        return self._found[key]

    def newest(self, key: str, most: int = TAIL) -> list[float]:
        """So many of the newest numbers under `key`, in order of steps."""
        return list(islice(_numbers(reversed(self.metrics), key), most))[::-1]

    def now(self, key: str) -> float | None:
        """The mean over the newest steps; None while there are too few of them."""
        return _mean_of_window(self.newest(key, WINDOW))

    def start(self, key: str) -> float | None:
        """The mean over the first steps; None while there are too few of them."""
        return _mean_of_window(self.course.first.get(key, []))

    def lasted(self, key: str, holds: Callable[[float], bool]) -> int:
        """For how many of the newest steps, up to `TAIL`, it has held without a break."""
        return sum(1 for _ in takewhile(holds, islice(_numbers(reversed(self.metrics), key), TAIL)))

    def reward_names(self) -> list[str]:
        """Reward functions, by what was logged of them in any step."""
        found = (key.removeprefix("rewards/").rpartition("/") for key in self.course.count if key.startswith("rewards/"))
        return list(dict.fromkeys(name for name, _, figure in found if name and figure in ("mean", "none")))

    def skill(self) -> list[float]:
        """Share of right answers among those that can be read, over the whole run."""
        return self.values(SKILL)

    def is_mastered(self) -> bool:
        """Most answers are right: equal rewards are then the goal, not a fault."""
        return (self.now("pass@1") or 0.0) >= MASTERED or (self.now("groups/all_right") or 0.0) >= 0.5


def rises(values: Sequence[float]) -> bool:
    """The last quarter lies clearly above the first: by three standard errors of their difference."""
    quarter = len(values) // 4
    if len(values) < LONG_ENOUGH:
        return False
    early, late = values[:quarter], values[-quarter:]
    noise = math.sqrt((variance(early) + variance(late)) / quarter)
    return mean(late) - mean(early) > max(3 * noise, 1e-9)


def falls(values: Sequence[float]) -> bool:
    """The last quarter lies clearly below the first."""
    return rises([-value for value in values])


def first_and_last(history: History) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Held-out totals that are known, once a run is long enough to compare them."""
    totals = list(history.evaluations.values())
    if len(totals) < 2 or history.steps < LONG_ENOUGH:
        return None
    first, last = ({key: value for key, value in each.items() if value is not None} for each in (totals[0], totals[-1]))
    return first, last


def held_out_is_flat(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """The later accuracy lies within or below the earlier one's interval, and there was something left to gain."""
    start, now = before.get("accuracy"), after.get("accuracy")
    if start is None or now is None:
        return False
    return bool(now <= (before.get("accuracy_high") or start) and now < 0.95)


def held_out_rose(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """The later accuracy is known, and lies above the earlier one's interval."""
    start, now = before.get("accuracy"), after.get("accuracy")
    return start is not None and now is not None and bool(now > (before.get("accuracy_high") or start))


def accuracies(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The figures."""
    return f"held-out accuracy {before['accuracy']:.1%} -> {after['accuracy']:.1%}"


def _numbers(records: Iterable[Mapping[str, Any]], key: str) -> Iterator[float]:
    return (value for record in records if is_number(value := record.get(key)))


def _mean_of_window(values: Sequence[float]) -> float | None:
    return mean(values) if len(values) == WINDOW else None
