"""The newest checkpoint that is whole, and what is wrong with each newer one.

The one hard idea: a folder's name proves nothing, and neither does a pointer to it. So every file is read and hashed against the manifest
(about 1.7 GB a second on one core) before a run goes on from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heron.training.keeping.writing import MANIFEST, leftovers, sha256

NAME = re.compile(r"step-[0-9]{6,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is to go on from."""

    path: Path | None
    """The newest checkpoint that is whole; None if there is none."""
    skipped: Mapping[str, str]
    """Newer ones by name, and what was left half done, each with what is wrong with it."""

    @property
    def sentences(self) -> list[str]:
        """What was passed over, for people."""
        used = "the run goes back to its start" if self.path is None else f"{self.path.name} is used"
        return [f"The checkpoint {name} was passed over: {fault}; {used}." for name, fault in self.skipped.items()]


def find(folder: Path) -> Found:
    """The newest whole checkpoint in `checkpoints/` of a run."""
    skipped = {path.name: "it was not written to its end" for path in leftovers(folder) if path.suffix == ".partial"}
    for path in reversed(checkpoints_in(folder)):
        if (fault := fault_of(path)) is None:
            return Found(path=path, skipped=skipped)
        skipped[path.name] = fault
    return Found(path=None, skipped=skipped)


def checkpoints_in(folder: Path) -> list[Path]:
    """Folders that are called like checkpoints, the oldest first."""
    return sorted((path for path in folder.glob("step-*") if NAME.fullmatch(path.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's folder is called after."""
    return int(checkpoint.name.removeprefix("step-"))


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file is as the manifest says."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    if not isinstance(manifest, dict) or not manifest:
        return f"{MANIFEST} names no files"
    faults = (_fault_of_file(path / name, name, entry) for name, entry in manifest.items())
    return next((fault for fault in faults if fault is not None), None)


def _fault_of_file(path: Path, name: str, entry: Any) -> str | None:
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{name} has {size} bytes instead of {entry['bytes']}"
        return None if sha256(path) == entry["sha256"] else f"the SHA-256 of {name} is another one than when it was written"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error})"
    except (KeyError, TypeError):
        return f"{MANIFEST} does not describe {name}"
