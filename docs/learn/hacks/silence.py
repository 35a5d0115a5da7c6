"""A wrong answer costs much and no answer costs nothing. The model stops answering."""

from heron.rewards.verifying import number, reward
from heron.types import Tags

_flawed = reward(number, right=1.0, wrong=-3.0, unreadable=0.0)
_mended = reward(number, right=1.0, wrong=-1.0, unreadable=-1.5)


def flawed(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """Right 1, wrong -3, no number 0."""
    return _flawed(completion, answer, tags, prefilled)


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """Right 1, wrong -1, no number -1.5: silence is worst."""
    return _mended(completion, answer, tags, prefilled)
