"""The two rewards of the arithmetic task: is there a number where the answer belongs, and is it the right one?

The first is worth little and comes early (luck has something to grow from); the second is worth more and comes late.
"""

from __future__ import annotations

from heron.rewards.answers import answer_text
from heron.rewards.numbers import only_number
from heron.rewards.verifying import number, reward
from heron.types import Tags


def number_found(completion: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the answer holds exactly one number, else -1.

    | completion                                                      | score |
    |-----------------------------------------------------------------|-------|
    | `<SOLUTION>7</SOLUTION>`, `<SOLUTION>about 7</SOLUTION>`        | +1    |
    | `7`, `<SOLUTION>7`, `<SOLUTION>cat</SOLUTION>`, `<SOLUTION>3 or 4</SOLUTION>` | -1 |
    """
    answer = answer_text(completion, tags, prefilled)
    return 1.0 if answer is not None and only_number(answer) is not None else -1.0


number_right = reward(number, right=3.0, wrong=-3.0, unreadable=-3.0, name="number_right")
"""+3 if the answer's only number equals the reference, else -3 (see `heron.rewards.verifying.number`)."""
