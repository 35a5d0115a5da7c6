"""Long reasoning is good reasoning. So any words will do."""

from heron.rewards.arithmetic import number_right
from heron.rewards.shaping import repetition
from heron.types import Tags

_repeats = repetition()


def flawed(completion: str) -> float:
    """0.02 for each word."""
    return 0.02 * len(completion.split())


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 for the right number, however long it took; repeating oneself takes away."""
    return (1.0 if number_right(completion, answer, tags, prefilled) > 0 else 0.0) + _repeats(completion)
