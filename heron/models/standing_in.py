"""A folder that stands in for a model: its weights beside another tokenizer or template, or those of a module in memory.

The one hard idea: such a folder's path says nothing to anybody else, so the folder itself says which model it stands in for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "heron_base.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The model that a folder stands in for."""

    name: str
    """Folder or hub id."""
    same_weights: bool
    """Its weights are in the folder as they are; else they may have been changed in memory."""
    revision: str | None = None
    """Commit of a hub id that they are of."""


def stand_in(folder: Path, original: Original) -> None:
    """Let the folder say what it stands in for."""
    (folder / FILE).write_text(json.dumps(asdict(original)) + "\n", encoding="utf-8")


def original_of(folder: str | Path) -> Original | None:
    """What a folder stands in for; None if it does not say, or is a hub id."""
    file = Path(folder) / FILE
    return Original(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
