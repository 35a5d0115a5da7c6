"""How alike two texts are: by characters, and by words.

The hard idea: comparing texts takes time that grows with the product of their lengths, and a model decides one of them. Here the longest
common subsequence is found with one big integer for a whole column of the table (Hyyrö 2004), so that 4,000 characters take
milliseconds; longer texts are cut, which is said in the docstrings. Left out: what the texts mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from heron.rewards.answers import said
from heron.rewards.verifying import check_answer_text, checks_row
from heron.types import Tags

LONGEST = 4_000
"""Characters of a text that are compared."""


@checks_row(check_answer_text)
def similarity(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """From 0 (nothing in common) to 1 (the same), by characters; case and whitespace do not count (see `fuzzy_match`)."""
    return fuzzy_match(said(completion, tags, prefilled), str(answer))


def fuzzy_match(text: str, reference: str) -> float:
    """Twice the longest common subsequence of characters over both lengths, up to 4,000 characters each."""
    return _ratio(_folded(text), _folded(reference))


def rouge_l(text: str, reference: str) -> float:
    """As `fuzzy_match`, by words: ROUGE-L's F1."""
    return _ratio(_folded(text).split(), _folded(reference).split())


def rouge_n(words: int) -> Callable[[str, str], float]:
    """F1 of the runs of so many words that both have: ROUGE-N."""

    def rouge(text: str, reference: str) -> float:
        found, wanted = (_runs(_folded(each).split(), words) for each in (text, reference))
        common = sum((found & wanted).values())
        return 2 * common / (found.total() + wanted.total()) if common else 0.0

    return rouge


def _ratio(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    return 2 * _common(a, b) / (len(a) + len(b)) if a and b else 0.0


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    places: dict[Hashable, int] = {}
    for place, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << place
    every = (1 << len(a)) - 1
    column = every
    for item in b:
        matched = column & places.get(item, 0)
        column = ((column + matched) | (column - matched)) & every
    return len(a) - column.bit_count()


def _runs(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _folded(text: str) -> str:
    return " ".join(text[:LONGEST].casefold().split())
