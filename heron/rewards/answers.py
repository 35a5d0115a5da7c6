"""Finds the parts of a completion: its reasoning, its answer, and what stands around them.

The hard idea: the model decides what it writes, so every ambiguity is a way to be paid twice. An answer is read only
if there is one pair of answer tags after the (first) reasoning; two answers, an answer inside the reasoning (closed or not), or
an unclosed one (perhaps cut in the middle of a number) are no answer. A text without reasoning tags has no reasoning. Searching
is by `str.find` and `str.count`: linear time on any input.

A chat template may end the prompt with the opening tag; `prefilled` is that tag, and counts as written by the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.types import Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A completion with each of the four tags exactly once, in order, cut at the tags; texts are not stripped."""

    before: str
    """In front of the reasoning."""
    reasoning: str
    """Between the reasoning tags."""
    between: str
    """From the end of the reasoning to the answer."""
    answer: str
    """Between the answer tags."""
    after: str
    """Behind the answer."""

    @property
    def is_clean(self) -> bool:
        """True if nothing but whitespace stands outside the tags, and the answer is not blank."""
        return not (self.before + self.between + self.after).strip() and bool(self.answer.strip())


def answer_text(completion: str, tags: Tags, prefilled: str = "") -> str | None:
    """What stands between the answer tags, stripped; None if there is no answer, or more than one.

    | completion                                        | answer |
    |---------------------------------------------------|--------|
    | `<answer> 5 </answer>`, with or without reasoning | `"5"`  |
    | `<answer></answer>`                               | `""`   |
    | `5`, `<answer>5`, `</answer>5<answer>`            | None   |
    | `<answer>5</answer><answer>6</answer>`            | None   |
    | `<reasoning><answer>5</answer></reasoning>`       | None   |
    | `<reasoning>maybe <answer>5</answer>, no`         | None   |
    | `<answer>maybe <reasoning>5</answer>`             | None   |
    """
    whole = prefilled + completion
    text = whole.partition(tags.reasoning_end)[2] if tags.reasoning_end in whole else whole
    if text.count(tags.solution_start) != 1 or text.count(tags.solution_end) != 1:
        return None
    before, _, rest = text.partition(tags.solution_start)
    answer, is_closed, _ = rest.partition(tags.solution_end)
    return answer.strip() if is_closed and not _is_open(before + answer, tags) else None


def _is_open(text: str, tags: Tags) -> bool:
    """True if the text ends inside the reasoning: it was opened, and not closed since."""
    return text.rfind(tags.reasoning_start) > text.rfind(tags.reasoning_end)


def said(completion: str, tags: Tags, prefilled: str = "") -> str:
    """What is meant for the reader: the answer between its tags; the whole text, if it has no tag at all; else nothing.

    For tasks whose answer is a text, where a model may not have been asked for tags.
    """
    text = prefilled + completion
    if not any(tag in text for tag in tags):
        return text.strip()
    return answer_text(completion, tags, prefilled) or ""


def parts(completion: str, tags: Tags, prefilled: str = "") -> Parts | None:
    """The completion cut at its four tags; None unless each is there exactly once, in order."""
    rest = prefilled + completion
    if any(rest.count(tag) != 1 for tag in tags):
        return None
    pieces = []
    for tag in tags:
        piece, found, rest = rest.partition(tag)
        if not found:
            return None
        pieces.append(piece)
    before, reasoning, between, answer = pieces
    return Parts(before=before, reasoning=reasoning, between=between, answer=answer, after=rest)
