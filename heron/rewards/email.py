"""The e-mail task: five small rules that a reply to a customer is scored by.

The hard idea: each rule that looks for words is one that a model learns to satisfy with a list of words. So a keyword counts only in a
text that is more than its keywords, the recipient's name only in the greeting, and the signature only as the last lines. Facts (name,
telephone number, address) come from the row's columns, so an invented one earns nothing. Left out: whether the reply is polite, or true;
that takes a judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from heron.rewards.answers import said
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

_WORD = re.compile(r"\w+")


def required_keywords(completion: str, keywords: Sequence[str] | str, tags: Tags, prefilled: str = "") -> float:
    """+1 if every keyword of the column (a list, or text with commas) is said, as words, in any case; else 0.

    A text with fewer than five words per keyword, or one that says a keyword more than three times, gets 0.
    """
    text = _folded(said(completion, tags, prefilled))
    wanted = [_folded(word) for word in (keywords.split(",") if isinstance(keywords, str) else keywords) if word.strip()]
    times = [len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text)) for word in wanted]
    is_a_list = len(_WORD.findall(text)) < LEAST_WORDS_PER_KEYWORD * len(wanted)
    return 1.0 if wanted and not is_a_list and all(1 <= count <= MOST_TIMES for count in times) else 0.0


def exact_match(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the reply is word for word the reference; whitespace is free; else 0."""
    words = said(completion, tags, prefilled).split()
    return 1.0 if words and words == str(answer).split() else 0.0


def too_long(completion: str, tags: Tags, prefilled: str = "", most_words: int = MOST_WORDS) -> float:
    """-1 if the reply has more words than the column `most_words` (150 where there is none), else 0."""
    return -1.0 if len(said(completion, tags, prefilled).split()) > most_words else 0.0


def names_recipient(completion: str, recipient: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the first line greets the recipient by the whole name, or by its first or last word; else 0."""
    lines = _lines(said(completion, tags, prefilled))
    greeting = _WORD.findall(lines[0].casefold()) if lines else []
    names = _WORD.findall(str(recipient).casefold())
    return 1.0 if names and len(greeting) <= len(names) + 4 and (names[0] in greeting or names[-1] in greeting) else 0.0


def has_signature(completion: str, phone: str, email: str, address: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the last eight lines have the columns `phone` (its digits), `email` and `address`, three lines before them; else 0."""
    lines = _lines(said(completion, tags, prefilled))
    last = _folded(" ".join(lines[-SIGNATURE_LINES:]))
    has_all = _digits(phone) in _digits(last) and _folded(email) in last and _letters(address) in _letters(last)
    starts = (number for number, line in enumerate(lines) if _folded(email) in _folded(line) or _digits(phone) in _digits(line))
    return 1.0 if has_all and next(starts, 0) >= LINES_BEFORE else 0.0


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _folded(text: str) -> str:
    return " ".join(str(text).casefold().split())


def _digits(text: str) -> str:
    return "".join(re.findall(r"\d", str(text)))


def _letters(text: str) -> str:
    """Letters and digits alone: an address may be broken into lines."""
    return "".join(_WORD.findall(_folded(text)))
