"""What a run came to, in sentences for someone who knows nothing of training.

The one hard idea: a figure is given with what it could have been by luck, and the sentence depends on it: that something was learnt is
said only where the two intervals lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heron.run.text import count

Totals = Mapping[str, Any]


def verdict(before: Totals, after: Totals) -> str:
    """One sentence: better, worse, or not to be told apart."""
    if "accuracy" not in before or "accuracy" not in after:
        return _by_reward(before, after)
    key = _telling(before, after)
    earlier, later = of_hundred(before[key], bare=True), of_hundred(after[key])
    solved = f"It solves {later} problems that it had not seen in training; before, it solved {earlier}." if key == "accuracy" else (
        f"Of the answers that it gives when it may vary its words, {later} are right; before, {earlier} were.")
    return f"{_WENT[_direction(before, after, key)]} {solved}"


def certainty(before: Totals, after: Totals) -> str:
    """How sure that is."""
    if "accuracy_low" not in before or "accuracy_low" not in after:
        return f"Measured on {count(after.get('problems'))} problems."
    key = _telling(before, after)
    meaning = "These ranges lie apart, so chance alone would hardly explain the difference." if _direction(before, after, key) else (
        "These ranges overlap, so the difference may be chance. More held-out problems (evaluation.size) would tell more.")
    return (
        f"Measured on {count(after.get('problems'))} problems that were kept apart from training. With so many, the true share lies most "
        f"likely {between(after, key)} now, and lay {between(before, key)} before. {meaning}"
    )


def alone(totals: Totals, name: str) -> str:
    """Where there is nothing to compare with."""
    measured = f"{of_hundred(totals['accuracy'])} problems are solved" if "accuracy" in totals else "a mean reward was measured"
    return f"The model was measured only {name} training: {measured}. So nothing can be said of what training changed."


def between(totals: Totals, key: str = "accuracy") -> str:
    """`between 94 and 99 %`."""
    return f"between {100 * totals[f'{key}_low']:.0f} and {100 * totals[f'{key}_high']:.0f} %"


def of_hundred(value: float, *, bare: bool = False) -> str:
    """`97 of 100`, without claiming 0 or 100 for what is not quite that."""
    rounded = round(100 * value)
    words = "fewer than 1" if rounded == 0 and value > 0 else "more than 99" if rounded == 100 and value < 1 else str(rounded)
    return words if bare else f"{words} of 100"


_WENT = {1: "The model got better.", -1: "The model got worse.", 0: "No difference can be told."}


def _telling(before: Totals, after: Totals) -> str:
    """Which figure to speak of: the greedy answers, unless only the sampled answers tell a difference."""
    sampled = "pass_at_1" in before and "pass_at_1" in after
    return "pass_at_1" if sampled and not _direction(before, after, "accuracy") and _direction(before, after, "pass_at_1") else "accuracy"


def _direction(before: Totals, after: Totals, key: str) -> int:
    """1 where the later interval lies above the earlier one, -1 where below, 0 where they overlap."""
    earlier, later = before[key], after[key]
    if after.get(f"{key}_low", later) > before.get(f"{key}_high", earlier):
        return 1
    return -1 if after.get(f"{key}_high", later) < before.get(f"{key}_low", earlier) else 0


def _by_reward(before: Totals, after: Totals) -> str:
    one, other = before.get("mean_reward"), after.get("mean_reward")
    if one is None or other is None:
        return "Nothing was measured that could be compared."
    went = "rose" if other > one else "fell" if other < one else "stayed"
    return f"The mean reward on problems that it had not seen in training {went}: {one:.2f} before, {other:.2f} after."

