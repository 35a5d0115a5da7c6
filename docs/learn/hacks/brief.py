"""Every character costs. So the working out goes first, and the right answers go with it."""

from heron.rewards.arithmetic import number_right
from heron.rewards.format import follows_format
from heron.types import Tags


def flawed(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 for the right number, less 0.06 for each character."""
    return (1.0 if number_right(completion, answer, tags, prefilled) > 0 else 0.0) - 0.06 * len(completion)


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """For the right number in the format, 2 less 0.005 for each character, at least 1; else nothing, so brevity replaces neither."""
    is_right = number_right(completion, answer, tags, prefilled) > 0 and follows_format(completion, tags, prefilled) > 0
    return max(1.0, 2.0 - 0.005 * len(completion)) if is_right else 0.0
