"""What a model was asked and said to a problem, short enough to be taken in: one answer, or a conversation of several turns.

The one hard idea: the last answer of a game is not what the model did, so all turns are shown; of a long conversation the beginning and the
end, with a count of what lies between. Nothing here is made harmless yet: who shows it must do so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.run.text import count

MOST_TEXT = 1200
"""Characters of a single answer that are shown."""
MOST_OF_TURN = 300
"""The same of one of several."""
MOST_TURNS = 10
"""Turns of a conversation that are shown: half of them from its beginning, half from its end."""
SPEAKERS = {"assistant": "model", "user": "reply"}
"""Who speaks, by role; other roles are called as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One thing that was said."""

    by: str
    """`model`, `reply`, or another role; empty where there is no conversation, and for a gap in one."""
    text: str
    """What."""


def said(row: Mapping[str, Any]) -> list[Said]:
    """The turns of a recorded answer: one, without a speaker, unless the row has a conversation."""
    turns = row.get("conversation")
    if not isinstance(turns, list) or not turns:
        return [Said(by="", text=shortened(row.get("text", "")) or "(no text)")]
    gap = len(turns) - MOST_TURNS
    if gap <= 0:
        return [_said(turn) for turn in turns]
    half = MOST_TURNS // 2
    between = Said(by="", text=f"… ({count(gap)} more in between)")
    return [*map(_said, turns[:half]), between, *map(_said, turns[-half:])]


def shortened(text: object, most: int = MOST_TEXT) -> str:
    """At most so many characters, and how many there are more."""
    words = str(text).strip()
    return words if len(words) <= most else f"{words[:most]} … ({count(len(words) - most)} characters more)"


def _said(turn: object) -> Said:
    """A message of the conversation, or whatever stands there."""
    if not isinstance(turn, Mapping):
        return Said(by="?", text=shortened(turn, MOST_OF_TURN))
    role, content = str(turn.get("role", "?")), turn.get("content")
    text = content if isinstance(content, str) else json.dumps(dict(turn), default=str)
    return Said(by=SPEAKERS.get(role, role), text=shortened(text, MOST_OF_TURN) or "(no text)")
