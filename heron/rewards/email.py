"""The e-mail task: five small rules that a reply to a customer is scored by.

The hard idea: each rule that looks for words is one that a model learns to satisfy with a list of words. So a keyword counts only in a
text that is more than its keywords, the recipient's name only in the greeting, and the signature only as the last lines. Facts (name,
telephone number, address) come from the row's columns, so an invented one earns nothing; and a column that is empty, which any reply would
satisfy, is refused before training. Left out: whether the reply is polite, or true; that takes a judge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from heron.errors import DataError
from heron.rewards.answers import said
from heron.rewards.calling import takes_away
from heron.rewards.scores import plain
from heron.rewards.verifying import check_answer_text, checks_row
from heron.types import Tags

MOST_WORDS = 150
"""Of a reply, where the row has no column `most_words`."""
LEAST_WORDS_PER_KEYWORD = 5
"""Fewer make the text a list of keywords."""
MOST_TIMES = 3
"""A keyword that is said more often is stuffed."""
SIGNATURE_LINES = 8
"""At the end, blank ones not counted."""
LINES_BEFORE = 3
"""In front of it: a greeting, something said, a name. A signature alone is no reply."""

TITLES = frozenset({
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sir", "madam", "herr", "frau", "fräulein", "monsieur", "madame", "mme",
    "mademoiselle", "mlle", "señor", "señora", "signor", "signora",
})  # fmt: skip
"""No names: a greeting that has the title alone greets somebody else."""

_WORD = re.compile(r"\w+")


def check_keywords(columns: Mapping[str, Any]) -> None:
    """Raises DataError for a column `keywords` that asks for nothing."""
    if not _keywords(columns["keywords"]):
        raise DataError(f'The column keywords must be a list of words, such as ["refund", "order 4711"], or text with commas, but it is '
                        f"{columns['keywords']!r:.100}.")


def check_most_words(columns: Mapping[str, Any]) -> None:
    """Raises DataError for a limit that is no number."""
    _limit(columns.get("most_words"))


def check_recipient(columns: Mapping[str, Any]) -> None:
    """Raises DataError for a recipient without a name."""
    if not _names(columns["recipient"]):
        raise DataError(f"The column recipient must be a name, such as Anna Weber or Ms Weber, but it is {columns['recipient']!r:.100}.")


def check_signature(columns: Mapping[str, Any]) -> None:
    """Raises DataError for a part of the signature that is empty."""
    for name, has in (("phone", _digits), ("email", _folded), ("address", _letters)):
        if columns[name] is None or not has(columns[name]):
            raise DataError(f"The column {name} must be what stands in the signature, but it is {columns[name]!r:.100}.")


@checks_row(check_keywords)
def required_keywords(completion: str, keywords: Sequence[Any] | str, tags: Tags, prefilled: str = "") -> float:
    """+1 if every keyword of the column (a list, or text with commas) is said, as words, in any case; else 0.

    A text with fewer than five words per keyword, or one that says a keyword more than three times, gets 0.
    """
    text = _folded(said(completion, tags, prefilled))
    wanted = _keywords(keywords)
    times = [len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text)) for word in wanted]
    is_a_list = len(_WORD.findall(text)) < LEAST_WORDS_PER_KEYWORD * len(wanted)
    return 1.0 if wanted and not is_a_list and all(1 <= count <= MOST_TIMES for count in times) else 0.0


@checks_row(check_answer_text)
def exact_match(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the reply is word for word the reference; whitespace is free; else 0."""
    words = said(completion, tags, prefilled).split()
    return 1.0 if words and words == str(answer).split() else 0.0


@takes_away
@checks_row(check_most_words)
def too_long(completion: str, tags: Tags, prefilled: str = "", most_words: float | None = None) -> float:
    """-1 if the reply has more words than the column `most_words` (150 where there is none), else 0."""
    return -1.0 if len(said(completion, tags, prefilled).split()) > _limit(most_words) else 0.0


@checks_row(check_recipient)
def names_recipient(completion: str, recipient: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the first line greets the recipient by the whole name, or by its first or last word, which a title is not; else 0."""
    lines = _lines(said(completion, tags, prefilled))
    greeting = _WORD.findall(lines[0].casefold()) if lines else []
    names, most = _names(recipient), len(_WORD.findall(str(recipient))) + 4
    return 1.0 if names and len(greeting) <= most and (names[0] in greeting or names[-1] in greeting) else 0.0


@checks_row(check_signature)
def has_signature(completion: str, phone: str, email: str, address: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the last eight lines have the columns `phone` (its digits), `email` and `address`, three lines before them; else 0."""
    lines = _lines(said(completion, tags, prefilled))
    last = _folded(" ".join(lines[-SIGNATURE_LINES:]))
    parts = ((_digits(phone), _digits(last)), (_folded(email), last), (_letters(address), _letters(last)))
    has_all = all(part and part in where for part, where in parts)
    starts = (number for number, line in enumerate(lines) if _folded(email) in _folded(line) or _digits(phone) in _digits(line))
    return 1.0 if has_all and next(starts, 0) >= LINES_BEFORE else 0.0


def _keywords(given: Any) -> list[str]:
    """Folded; a number is a word like another. Empty if it is neither text nor a list of words."""
    listed = str(given).split(",") if isinstance(given, str | int | float) else given
    if not isinstance(listed, Sequence) or not all(isinstance(word, str | int | float) for word in listed):
        return []
    return [_folded(str(word)) for word in listed if str(word).strip()]


def _names(recipient: Any) -> list[str]:
    """Words of a name without its titles."""
    words = [] if recipient is None else _WORD.findall(str(recipient).casefold())
    return [word for word in words if word not in TITLES]


def _limit(most_words: Any) -> float:
    value = plain(MOST_WORDS if most_words is None else most_words)
    if not isinstance(value, float) or not math.isfinite(value) or value < 1:
        raise DataError(f"The column most_words must be a number of words, such as {MOST_WORDS}, but it is {most_words!r:.100}.")
    return value


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _folded(text: str) -> str:
    return " ".join(str(text).casefold().split())


def _digits(text: str) -> str:
    return "".join(re.findall(r"\d", str(text)))


def _letters(text: str) -> str:
    """Letters and digits alone: an address may be broken into lines."""
    return "".join(_WORD.findall(_folded(text)))
