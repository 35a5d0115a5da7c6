"""One line of the report of `heron migrate`, and the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heron.compat.notes import Kind, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What becomes of one thing in a file."""

    line: int
    """Where it stands, from 1; in a notebook within its cell."""
    what: str
    """An import, an option, a call."""
    kind: Kind
    """How it carries over."""
    text: str
    """One sentence for a person."""
    cell: int | None = None
    """Number of the notebook's cell, from 1."""

    @property
    def place(self) -> str:
        """`12`, or `cell 3, line 2`."""
        return str(self.line) if self.cell is None else f"cell {self.cell}, line {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A file, looked through."""

    findings: tuple[Finding, ...]
    """In the file's order."""
    text: str
    """The file as it should be: a script, a notebook, or a recipe. What is unsupported is in it as it was, or left out of a recipe."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """Others that it needs, which are written with it."""

    @property
    def is_complete(self) -> bool:
        """Everything is known to carry over."""
        return not any(finding.kind in (Kind.UNSUPPORTED, Kind.UNSEEN) for finding in self.findings)


def of_note(made: Note, line: int, owner: str = "") -> Finding:
    """The finding that an option's note is, at its line."""
    return Finding(line=line, what=f"{owner}{made.field}", kind=made.kind, text=made.text)
