"""Checks what a reward function returned: a finite number or None for each rollout, nothing else.

The hard idea: a bad score must never reach an average. NaN would poison the whole batch without a word, True is as likely a forgotten
comparison as a score, and of 1e200 no variance can be taken; all are errors that name the function, the row and the value. Numbers of other
libraries (NumPy, torch, Decimal, fractions) are made plain by `plain`, which is also what a process for scoring sends back: so a function
is paid the same in either place.
"""

from __future__ import annotations

import decimal
import math
import numbers
from collections.abc import Sequence
from typing import Any

from heron.errors import RewardError
from heron.types import Rollout

LARGEST = 1e30
"""Of a score, and of a weighted total. Losses are in float32, which ends at 3e38; differences and sums over a batch must fit, too."""


def list_of_scores(returned: Any, name: str, rollouts: Sequence[Rollout]) -> list[Any]:
    """What a function in batch form returned, one value for each rollout, not yet checked. Arrays and tensors are taken as lists."""
    values = listed(returned)
    if not is_list(values):
        raise RewardError(
            f"The reward function {name} takes completions, so it must return a list with one score for each, but in "
            f"the batch that starts with row {rollouts[0].prompt.id} it returned {shortened(values)}, "
            f"a {type(values).__name__}."
        )
    if len(values) != len(rollouts):
        raise RewardError(
            f"The reward function {name} returned {len(values)} scores for {len(rollouts)} completions, "
            f"in the batch that starts with row {rollouts[0].prompt.id}. "
            "Return one score for each, or None where it does not apply."
        )
    return list(values)


def checked_score(value: Any, name: str, rollout: Rollout) -> float | None:
    """The score as a float, or None. Raises RewardError for anything that is no score."""
    value = plain(value)
    if value is None:
        return None
    if not isinstance(value, float):
        fix = "Return 1.0 or 0.0." if isinstance(value, bool) else "Return a float, or None where it does not apply."
        raise RewardError(f"{_returned(value, name, rollout)}, a {type(value).__name__}, which is not a number. {fix}")
    if not math.isfinite(value):
        raise RewardError(f"{_returned(value, name, rollout)}, which is not finite. Check what it divides by.")
    if abs(value) > LARGEST:
        raise RewardError(f"{_returned(value, name, rollout)}, which is beyond ±{LARGEST:g}: no loss can be computed with it. Scale it.")
    return value


def listed(value: Any) -> Any:
    """An array or a tensor with its numbers as Python's own; anything else as it is. Bytes have a list of numbers, too, but are none."""
    is_bytes = isinstance(value, bytes | bytearray | memoryview)
    return value.tolist() if hasattr(value, "tolist") and not is_bytes else value


def is_list(value: Any) -> bool:
    """True for a sequence of values; a text is none."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def plain(value: Any) -> Any:
    """A number of another library, or an array or tensor without dimensions, as a float; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real | decimal.Decimal):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def _returned(value: Any, name: str, rollout: Rollout) -> str:
    return (
        f"The reward function {name} returned {shortened(value)} for row {rollout.prompt.id} "
        f"with the completion {shortened(rollout.text)}"
    )


def shortened(value: Any, most: int = 200) -> str:
    """The value as it would be typed, cut to a length that fits in a message."""
    try:
        text = repr(value[: 2 * most] if isinstance(value, str) else value)
    except ValueError:  # the interpreter refuses to write a number of thousands of digits
        text = f"a value of type {type(value).__name__} that is too long to be written"
    return text if len(text) <= most else f"{text[:most]}..."
