"""How much more of something there is now than at the start, and how sure that is.

The one hard idea: "it does not rise" is a claim like "it rises", and needs evidence of its own. A gain comes with the span in which it
lies: it is up or down if nought is outside of that span, and flat only if the span excludes a gain worth having and its middle is near
nought. All else is unclear.

Two sources have spans: held-out problems, by the intervals of two evaluations (method 10 for the difference of two shares in Newcombe,
Statistics in Medicine 17, 1998), and the steps, by the spread of the first and of the newest quarter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heron.run.alerts.history import LONG_ENOUGH
from heron.run.averages import is_finite, mean, variance

ERRORS = 3.0
"""Standard errors on both sides of a gain over the steps: it is looked at again after each of them."""
WORTH = 0.1
"""A gain in shares that one would not want to miss."""
LEAST = 1e-9
"""Sums of equal numbers differ by less."""
SHARES = ("accuracy", "pass_at_1")
"""Held-out figures that have intervals, the more telling one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The change of one figure."""

    start: float
    """At first."""
    now: float
    """At last."""
    least: float
    """The smallest gain that the noise allows for; below 0 it is a loss."""
    most: float
    """The largest one."""

    @property
    def is_up(self) -> bool:
        """Beyond noise."""
        return self.least > LEAST

    @property
    def is_down(self) -> bool:
        """Beyond noise."""
        return self.most < -LEAST

    @property
    def is_flat(self) -> bool:
        """No gain that is worth having, and none in sight; of shares only."""
        gained = self.now - self.start
        return not self.is_up and self.most < WORTH and gained <= max((self.most - gained) / ERRORS, LEAST)


def in_training(values: Sequence[float]) -> Gain | None:
    """From the first quarter of the steps to the newest one; None while there are too few."""
    if len(values) < LONG_ENOUGH:
        return None
    quarter = len(values) // 4
    early, late = values[:quarter], values[-quarter:]
    gained, noise = mean(late) - mean(early), ERRORS * math.sqrt(variance(early) / len(early) + variance(late) / len(late))
    return Gain(start=mean(early), now=mean(late), least=gained - noise, most=gained + noise)


def on_held_out(evaluations: Mapping[str, Mapping[str, Any]]) -> Gain | None:
    """From the first evaluation to the newest one, by the share that tells most; None where no share was measured twice."""
    found = [gain for name in SHARES if (gain := _between(evaluations, name)) is not None]
    return next((gain for gain in found if gain.is_up or gain.is_down), found[0] if found else None)


def _between(evaluations: Mapping[str, Mapping[str, Any]], name: str) -> Gain | None:
    known = [totals for totals in evaluations.values() if is_finite(totals.get(name))]
    if len(known) < 2:
        return None
    first, last = (_with_ends(totals, name) for totals in (known[0], known[-1]))
    gained = last[""] - first[""]
    return Gain(
        start=first[""], now=last[""],
        least=gained - math.hypot(last[""] - last["_low"], first["_high"] - first[""]),
        most=gained + math.hypot(last["_high"] - last[""], first[""] - first["_low"]),
    )  # fmt: skip


def _with_ends(totals: Mapping[str, Any], name: str) -> dict[str, float]:
    """A share, and both ends of its interval where they were recorded."""
    ends = {end: totals.get(f"{name}{end}") for end in ("_low", "", "_high")}
    return {end: value if is_finite(value) else totals[name] for end, value in ends.items()}
