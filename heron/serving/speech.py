"""From the tokens of an answer to what a client reads: its text as far as it is certain, told apart into thinking, calls and the rest.

The one hard idea: a piece is given out as soon as nothing that may follow could change it, and not before. So a character that is not
whole, the beginning of a stop string, of a tag or of a call wait for what comes; and a stream says, in sum, what the whole answer says.

A call that cannot be read, or of a tool that was not offered, is text: nothing that was said is lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from heron.engine.native.sequence import Sequence
from heron.environments.tool_calls import CLOSE, OPEN, Call, find_calls
from heron.models import Policy
from heron.types import Tags

LINE = "call:"
"""Begins a call on a line of its own."""
THINK = ("<think>", "</think>")
"""How many families mark their reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer: text, or a call."""

    text: str = ""
    """What was said."""
    is_reasoning: bool = False
    """It was thought, not answered."""
    call: Call | None = None
    """Of a tool; then there is no text."""


class Splitter:
    """Tells apart what is fed to it bit by bit.

    Args:
        tags: of the run; `<think>` is known besides.
        opened: the prompt ends with a reasoning that is still open, by this tag.
        tools: names that may be called.
        is_plain: everything is text.
    """

    def __init__(self, tags: Tags, *, opened: str = "", tools: Collection[str] = (), is_plain: bool = False) -> None:
        self._tags = tags
        self._pairs = {} if is_plain else reasoning_pairs(tags)
        self._tools = tools
        self._closing = self._pairs.get(opened, "")  # of the reasoning that is open
        self._held = ""
        self._skips_space = bool(self._closing or tools)  # white space beside tags and calls is no part of an answer
        self._begins_line = True

    @property
    def is_thinking(self) -> bool:
        """The reasoning is open."""
        return bool(self._closing)

    def feed(self, text: str, *, ended: bool) -> list[Piece]:
        """What is certain now; with `ended`, all the rest."""
        self._held += text
        pieces: list[Piece] = []
        while (piece := self._next(ended)) is not None:
            if piece.text or piece.call is not None:
                pieces.append(piece)
        return pieces

    def _next(self, ended: bool) -> Piece | None:
        """The next piece (it may be empty, where only a tag was read); None if nothing is certain."""
        if self._skips_space:
            self._skip_space()
        if not self._held:
            return None
        if self._closing:
            return self._thought(ended)
        if self._tools and self._held.startswith(OPEN):
            return self._marked(ended)
        if self._tools and self._begins_line and self._held.startswith(LINE):
            return self._called(self._held.find("\n") if "\n" in self._held else None, ended)
        return self._answered(ended)

    def _skip_space(self) -> None:
        rest = self._held.lstrip()
        if skipped := self._held[: len(self._held) - len(rest)]:
            self._begins_line = skipped.endswith("\n")
        self._held, self._skips_space = rest, not rest

    def _thought(self, ended: bool) -> Piece | None:
        """As far as its end."""
        before, found, after = self._held.partition(self._closing)
        if not found:
            return self._released((self._closing,), ended, is_reasoning=True)
        self._held, self._closing = after, ""
        self._skips_space = self._begins_line = True
        return Piece(text=before, is_reasoning=True)

    def _marked(self, ended: bool) -> Piece | None:
        """A call between marks. Where it is not closed, or not before another one opens, its mark is text."""
        close, again = self._held.find(CLOSE), self._held.find(OPEN, len(OPEN))
        if close >= 0 and not 0 <= again < close:
            return self._called(close + len(CLOSE), ended)
        if again < 0 and not ended:
            return None
        self._held, self._begins_line = self._held[len(OPEN) :], False
        return Piece(text=OPEN)

    def _called(self, end: int | None, ended: bool) -> Piece | None:
        """A call up to its end; text if it is none."""
        if end is None and not ended:
            return None
        said, self._held = self._held[:end], "" if end is None else self._held[end:]
        calls = find_calls(said, self._tags)
        self._begins_line = False
        if len(calls) == 1 and calls[0].wrong is None and calls[0].name in self._tools:
            self._skips_space = True
            return Piece(call=calls[0])
        return Piece(text=said)

    def _answered(self, ended: bool) -> Piece | None:
        """Text up to the next tag or call."""
        if self._tools and self._begins_line and not ended and LINE.startswith(self._held):
            return None
        marks = (*self._pairs, *((OPEN, f"\n{LINE}") if self._tools else ()))
        found = min(((at, mark) for mark in marks if (at := self._held.find(mark)) >= 0), default=None)
        if found is None:
            return self._released(marks, ended)
        at, mark = found
        if mark in self._pairs:
            before, self._held = self._held[:at], self._held[at + len(mark) :]
            self._closing, self._skips_space = self._pairs[mark], True
            return Piece(text=before)
        at += mark.startswith("\n")
        before, self._held = self._held[:at], self._held[at:]
        self._begins_line = before.endswith("\n")
        return Piece(text=before)

    def _released(self, marks: Iterable[str], ended: bool, *, is_reasoning: bool = False) -> Piece | None:
        """All but what may be the beginning of a mark."""
        cut = len(self._held) - (0 if ended else _may_begin(self._held, marks))
        said, self._held = self._held[:cut], self._held[cut:]
        if said:
            self._begins_line = said.endswith("\n")
        return Piece(text=said, is_reasoning=is_reasoning) if said else None


class Speech:
    """Reads one completion while it is in the making."""

    def __init__(self, policy: Policy, stop: tuple[str, ...], splitter: Splitter) -> None:
        self._policy = policy
        self._stop = stop
        self._splitter = splitter
        self._known = self._decoded_to = 0  # tokens from `_known` on are decoded again, as what the next ones follow
        self._held = ""
        self._has_stopped = False
        self.calls: list[Call] = []
        """Of all pieces so far."""
        self.has_ended = False
        """Everything was read."""
        self.tokens_read = 0
        """How many were there at the last reading."""

    def read(self, sequence: Sequence) -> list[Piece]:
        """What is certain beyond the last time."""
        ended = sequence.finish_reason is not None  # asked first: then all tokens are there
        self.tokens_read = len(sequence.token_ids)
        self._held += self._decoded(sequence.token_ids[: self.tokens_read], ended)
        pieces = self._splitter.feed(self._until_stop(ended), ended=ended)
        self.calls += [piece.call for piece in pieces if piece.call is not None]
        self.has_ended = ended
        return pieces

    def _decoded(self, token_ids: list[int], ended: bool) -> str:
        """The text of new tokens; that of a character's first bytes comes with the last one."""
        before = self._policy.decode(token_ids[self._known : self._decoded_to])
        after = self._policy.decode(token_ids[self._known :])
        if not ended and after.endswith("\ufffd"):
            return ""
        self._known, self._decoded_to = self._decoded_to, len(token_ids)
        return after[len(before) :]

    def _until_stop(self, ended: bool) -> str:
        """What is held, before the first stop string, and without what may be the beginning of one. Nothing follows a stop string."""
        if self._has_stopped:
            return ""
        found = [at for text in self._stop if (at := self._held.find(text)) >= 0]
        if found:
            self._has_stopped = True
            return self._held[: min(found)]
        cut = len(self._held) - (0 if ended else _may_begin(self._held, self._stop))
        said, self._held = self._held[:cut], self._held[cut:]
        return said


def reasoning_pairs(tags: Tags) -> dict[str, str]:
    """What opens a reasoning, and what closes it."""
    return {tags.reasoning_start: tags.reasoning_end, THINK[0]: THINK[1]}


def opened_by(prompt: str, tags: Tags) -> str:
    """The tag with which a prompt has opened the reasoning already, or an empty string."""
    return next((tag for tag in reasoning_pairs(tags) if re.search(rf"{re.escape(tag)}\s*\Z", prompt[-200:])), "")


def _may_begin(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of a text that is the beginning of a mark, and not all of it."""
    lengths = ((mark, range(1, min(len(mark), len(text) + 1))) for mark in marks)
    return max((length for mark, own in lengths for length in own if text.endswith(mark[:length])), default=0)
