"""Asks a judge many things at once: from the cache, else once, else once more with what was wrong.

The hard idea: only an answer that could be read is kept. A failure is not cached, so a resumed run asks again, and it stands in the list as
the RewardError that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heron.errors import RewardError
from heron.rewards.judge.cache import key_of
from heron.rewards.judge.criteria import Unreadable
from heron.rewards.judge.prompt import repair
from heron.rewards.judge.protocol import Judge
from heron.types import Message

Read = Callable[[str], Any]
"""An answer's text to what it says. Raises Unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of it."""

    answers: list[Any]
    """What was read, or a RewardError, for each conversation."""
    cached: int
    """How many different conversations were answered from the cache."""


def ask_all(judge: Judge, conversations: Sequence[Sequence[Message]], schema: Mapping[str, Any], read: Read) -> Asked:
    """Equal conversations are asked once. Raises RewardStop where going on is pointless."""
    name = judge.name
    keys = [key_of(name, messages, schema) for messages in conversations]
    pending = dict(zip(keys, conversations, strict=True))
    found: dict[str, Any] = {}
    for key in pending:
        if (text := judge.cache.read(key)) is not None and not isinstance(value := _read(text, read), Unreadable):
            found[key] = value
    cached = len(found)
    pending = {key: messages for key, messages in pending.items() if key not in found}
    unread = _round(judge, pending, schema, read, found)
    again = {key: [*pending[key], *repair(text, str(problem))] for key, (text, problem) in unread.items()}
    for key, (text, problem) in _round(judge, again, schema, read, found).items():
        found[key] = RewardError(f"the judge's answer could not be read, twice: {problem}. The second one was {text[:200]!r}")
    return Asked(answers=[found[key] for key in keys], cached=cached)


def _round(
    judge: Judge, pending: Mapping[str, Sequence[Message]], schema: Mapping[str, Any], read: Read, found: dict[str, Any]
) -> dict[str, tuple[str, Unreadable]]:
    """Puts answers that can be read, and failures, into `found` as they come, and the former into the cache; returns the others."""
    unread: dict[str, tuple[str, Unreadable]] = {}
    keys = list(pending)
    for number, answer in judge.ask(list(pending.values()), schema) if pending else ():
        key = keys[number]
        value = answer if isinstance(answer, RewardError) else _read(answer, read)
        if isinstance(value, Unreadable):
            unread[key] = (str(answer), value)
            continue
        found[key] = value
        if not isinstance(value, RewardError):
            judge.cache.write(key, str(answer))
    return unread


def _read(text: str, read: Read) -> Any:
    try:
        return read(text)
    except Unreadable as problem:
        return problem
