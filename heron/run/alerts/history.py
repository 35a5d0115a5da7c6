"""What an alert looks at, and what it says.

The one hard idea: a figure of one step is noise. "Now" is a mean over the newest steps, and a trend is believed only if the last
quarter of a run lies three standard errors from the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from heron.run.averages import finite, is_finite, mean, variance

WINDOW = 5
"""Steps that a "now" is averaged over."""
LONG_ENOUGH = 20
"""Steps before which a trend is not judged."""
HEAD, TAIL = 32, 128
"""Steps that are looked at: the first ones, and the newest ones."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was recorded of a run."""

    metrics: Sequence[Mapping[str, Any]]
    """A record per step."""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Totals of each evaluation by name, oldest first."""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    """The newest checkpoint's event."""
    _found: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Columns that were asked for: most are asked for by several alerts."""

    @property
    def steps(self) -> int:
        """How many are known."""
        return len(self.metrics)

    def trimmed(self) -> History:
        """The same with at most so many steps that looking at it costs nothing: the middle of a long run is left out."""
        if self.steps <= HEAD + TAIL:
            return self
        metrics = [*self.metrics[:HEAD], *self.metrics[-TAIL:]]
        return History(metrics=metrics, evaluations=self.evaluations, checkpoint=self.checkpoint)

    def values(self, key: str) -> list[float]:
        """The numbers recorded under `key`, in order of steps."""
        if key not in self._found:
            self._found[key] = finite([record.get(key) for record in self.metrics])
        return self._found[key]

    def now(self, key: str) -> float | None:
        """The mean over the newest steps; None while there are too few of them."""
        return _mean_of_window(_numbers(reversed(self.metrics), key))

    def start(self, key: str) -> float | None:
        """The mean over the first steps; None while there are too few of them."""
        return _mean_of_window(_numbers(self.metrics, key))

    def reward_names(self) -> list[str]:
        """Reward functions, by the keys of the newest step."""
        keys = self.metrics[-1] if self.metrics else {}
        return [key[len("rewards/") : -len("/mean")] for key in keys if key.startswith("rewards/") and key.endswith("/mean")]

    def skill(self) -> list[float]:
        """Share of right answers among those that can be read: what is left of pass@1 when the format is taken out of it."""
        return [
            record["pass@1"] / readable for record in self.metrics
            if record.get("pass@1") is not None and (readable := 1 - (record.get("completions/unreadable") or 0.0)) > 0.05
        ]

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
    if "accuracy" not in before or "accuracy" not in after:
        return False
    return after["accuracy"] <= before.get("accuracy_high", before["accuracy"]) and after["accuracy"] < 0.95


def accuracies(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The figures."""
    return f"held-out accuracy {before['accuracy']:.1%} -> {after['accuracy']:.1%}"


def _numbers(records: Iterable[Mapping[str, Any]], key: str) -> Iterator[float]:
    return (value for record in records if is_finite(value := record.get(key)))


def _mean_of_window(values: Iterator[float]) -> float | None:
    """Of the first ones; no more are looked at."""
    found = list(islice(values, WINDOW))
    return mean(found) if len(found) == WINDOW else None
