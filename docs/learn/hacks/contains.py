"""The answer is looked for anywhere. A list of numbers holds it."""

from heron.rewards.arithmetic import number_right
from heron.types import Tags


def flawed(completion: str, answer: str) -> float:
    """1 if the right number stands anywhere in the text."""
    return 1.0 if str(answer) in completion else 0.0


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 if it is the only number between the answer tags."""
    return 1.0 if number_right(completion, answer, tags, prefilled) > 0 else 0.0
