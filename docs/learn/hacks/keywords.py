"""A point for each keyword. The reply is a list of keywords."""

from heron.rewards.email import required_keywords
from heron.types import Tags


def flawed(completion: str, keywords: list[str]) -> float:
    """1 each time that one of them is said."""
    return float(sum(completion.lower().count(word.lower()) for word in keywords))


def mended(completion: str, keywords: list[str], tags: Tags, prefilled: str = "") -> float:
    """1 if all are said, each three times at most, in a text of five words for each of them."""
    return required_keywords(completion, keywords, tags, prefilled)
