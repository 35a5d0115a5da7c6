"""A point for each tag. Tags are written again and again."""

from heron.rewards.format import follows_format
from heron.types import Tags


def flawed(completion: str, tags: Tags) -> float:
    """0.25 for every tag in the text."""
    return 0.25 * sum(completion.count(tag) for tag in tags)


def mended(completion: str, tags: Tags, prefilled: str = "") -> float:
    """1 if each tag is there once, in order, with nothing outside."""
    return follows_format(completion, tags, prefilled)
