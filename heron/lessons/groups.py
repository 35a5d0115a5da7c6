"""The lesson `group`: from the rewards of siblings to advantages, with every number on the way.

The one hard idea: an advantage is a comparison. The same reward is good news in a poor group and bad news in a rich one, and where all are
equal there is no news. What an advantage is divided by (`objective.scale_rewards`) decides how much one group counts beside another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from statistics import fmean, stdev

from rich.console import RenderableType

from heron.lessons.drawing import figure, signed, text
from heron.objective import advantages, loneliness
from heron.run.text import number

EXAMPLE = ((4.0, -2.0, -4.0, -4.0), (-4.0, -4.0, -4.0, -4.0), (4.0, 4.0, 4.0, -2.0))
"""What number_found and number_right pay for `4, 3, D, C`, then for four words, then for three right answers and a wrong number."""
SCALES = ("group", "batch", "none")


def shown(groups: Sequence[Sequence[float]]) -> list[RenderableType]:
    """A table of all groups, one below the other, and what it teaches."""
    by_scale = [advantages(groups, scale_rewards=scale) for scale in SCALES]
    drawn = figure("group", "reward", "mean", "reward - mean", "std", *(f"A {scale}" for scale in SCALES))
    for row, (rewards, *found) in enumerate(zip(groups, *by_scale, strict=True), start=1):
        mean, spread = fmean(rewards), stdev(rewards) if len(rewards) > 1 else None
        for sibling, (reward, *better) in enumerate(zip(rewards, *found, strict=True)):
            head = (str(row), number(mean), number(spread)) if sibling == 0 else ("", "", "")
            drawn.add_row(head[0], number(reward), head[1], signed(reward - mean), head[2], *map(signed, better))
        drawn.add_section()
    return [drawn, *(text(line) for line in _remarks(groups))]


def _remarks(groups: Sequence[Sequence[float]]) -> list[str]:
    rewards = list(chain.from_iterable(groups))
    spread = f" (std of the batch: {number(stdev(rewards))})" if len(rewards) > 1 else ""
    uniform = [str(row) for row, group in enumerate(groups, start=1) if len(group) > 1 and len(set(group)) == 1]
    return [
        f"A: the advantage. A group: divided by the std of the group, GRPO. A batch: by that of all rewards{spread}. A none: not divided, "
        "Dr. GRPO. To what it divides by, Heron adds 0.0001.",
        *([f"All rewards are the same in group {', '.join(uniform)}: all advantages are 0, nothing is learnt from it."] if uniform else []),
        *(["A group of one has nobody to compare with: its advantage is 0."] if loneliness(groups) else []),
    ]
