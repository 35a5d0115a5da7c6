"""What became of one option of another trainer."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Options = Mapping[str, Any]
"""Options by name."""


class Kind(enum.StrEnum):
    """How an option carries over."""

    SAME = "same"
    """The same name and meaning, or without effect in both."""
    RENAMED = "renamed"
    """The same meaning under another name."""
    DIFFERS = "differs"
    """Something close, but not the same; the note's text says what."""
    UNSUPPORTED = "unsupported"
    """Not translated: the run will be another one than in TRL."""
    UNSEEN = "unseen"
    """Not judged: its value is known only when the script runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What became of one option."""

    field: str
    """TRL's name."""
    given: Any
    """The value given; None if it was not."""
    kind: Kind
    """How it carries over."""
    text: str
    """One sentence for a person."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The Heron settings that it becomes, as `{"objective.epsilon": 0.2}`."""


def note(name: str, given: Any, kind: Kind, text: str, settings: Options | None = None) -> Note:
    """A note on the option `name`."""
    return Note(field=name, given=given, kind=kind, text=text, settings=settings or {})
