"""The format pays more than the answer. An empty form beats a right answer that lost a tag."""

import heron
from heron.rewards.arithmetic import number_right
from heron.rewards.format import follows_format
from heron.types import Tags


def flawed(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 for the format, 0.5 for the right number at the end."""
    return follows_format(completion, tags, prefilled) + (0.5 if heron.last_number(completion) == heron.number(answer) else 0.0)


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """2 for the right number between the answer tags, and 0.5 more for the format, only where it is right."""
    if number_right(completion, answer, tags, prefilled) < 0:
        return 0.0
    return 2.0 + 0.5 * follows_format(completion, tags, prefilled)
