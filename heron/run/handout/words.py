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
    earlier, later = before["accuracy"], after["accuracy"]
    solved = f"It solves {of_hundred(later)} problems that it had not seen in training; before, it solved {of_hundred(earlier, bare=True)}."
    if after.get("accuracy_low", later) > before.get("accuracy_high", earlier):
        return f"The model got better. {solved}"
    if after.get("accuracy_high", later) < before.get("accuracy_low", earlier):
        return f"The model got worse. {solved}"
    return f"No difference can be told. {solved}"


def certainty(before: Totals, after: Totals) -> str:
    """How sure that is."""
    if "accuracy_low" not in before or "accuracy_low" not in after:
        return f"Measured on {count(after.get('problems'))} problems."
    apart = after["accuracy_low"] > before["accuracy_high"] or after["accuracy_high"] < before["accuracy_low"]
    meaning = "These ranges lie apart, so chance alone would hardly explain the difference." if apart else (
        "These ranges overlap, so the difference may be chance. More held-out problems (evaluation.size) would tell more.")
    return (
        f"Measured on {count(after.get('problems'))} problems that were kept apart from training. With so many, the true share lies most "
        f"likely {between(after)} now, and lay {between(before)} before. {meaning}"
    )


def alone(totals: Totals, name: str) -> str:
    """Where there is nothing to compare with."""
    measured = f"{of_hundred(totals['accuracy'])} problems are solved" if "accuracy" in totals else "a mean reward was measured"
    return f"The model was measured only {name} training: {measured}. So nothing can be said of what training changed."


def between(totals: Totals) -> str:
    """`between 94 and 99 %`."""
    return f"between {100 * totals['accuracy_low']:.0f} and {100 * totals['accuracy_high']:.0f} %"


def of_hundred(value: float, *, bare: bool = False) -> str:
    """`97 of 100`, without claiming 0 or 100 for what is not quite that."""
    rounded = round(100 * value)
    words = "fewer than 1" if rounded == 0 and value > 0 else "more than 99" if rounded == 100 and value < 1 else str(rounded)
    return words if bare else f"{words} of 100"


def _by_reward(before: Totals, after: Totals) -> str:
    one, other = before.get("mean_reward"), after.get("mean_reward")
    if one is None or other is None:
        return "Nothing was measured that could be compared."
    went = "rose" if other > one else "fell" if other < one else "stayed"
    return f"The mean reward on problems that it had not seen in training {went}: {one:.2f} before, {other:.2f} after."

