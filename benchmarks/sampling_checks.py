"""A line of the table of `benchmarks.sampling`: one figure, what it must reach, and how far it is from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure."""

    what: str
    """What was measured."""
    figure: float
    """What was reached; NaN where there was nothing to compare with."""
    goal: float | None = None
    """What to reach; None where the figure only informs."""
    at_most: bool = False
    """Smaller is better."""
    behind: str = ""
    """The measurements themselves."""

    @property
    def reached(self) -> float:
        """Share of the goal: 1 and more is met. Infinite without a goal or a figure."""
        if self.goal is None or math.isnan(self.figure):
            return math.inf
        return self.goal / self.figure if self.at_most else self.figure / self.goal

    @property
    def aim(self) -> str:
        """The goal in words."""
        return "" if self.goal is None else f"{'<=' if self.at_most else '>='} {self.goal:g}x"

    @property
    def text(self) -> str:
        """The figure in words."""
        return "absent" if math.isnan(self.figure) else f"{self.figure:.2f}x"

    def cells(self) -> tuple[str, ...]:
        """Of its row."""
        verdict = "" if math.isinf(self.reached) else "met" if self.reached >= 1 else "missed"
        return self.what, self.text, self.aim, verdict, self.behind


COLUMNS = ("what", "figure", "goal", "verdict", "measured")


def worst(checks: Sequence[Check], *, name: str) -> Bar:
    """The line that is farthest from its goal decides; what could not be compared is named, and nobody to compare with is a miss."""
    asked = [check for check in checks if not math.isinf(check.reached)]
    absent = [check.what for check in checks if check.goal is not None and math.isnan(check.figure)]
    unseen = f"; not compared: {', '.join(absent)}" if absent else ""
    if not asked:
        return Bar(name=name, met=False, figure=f"nothing was compared{unseen}", goal="every line of the table")
    last = min(asked, key=lambda check: check.reached)
    held = sum(check.reached >= 1 for check in asked)
    figure = f"{held} of {len(asked)} lines held, the worst at {last.reached:.2f} of its goal ({last.what}: {last.text}){unseen}"
    return Bar(name=name, met=last.reached >= 1, figure=figure, goal=f"{last.aim} there, all lines held")
