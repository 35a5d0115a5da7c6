"""What a record file says without being read whole: a few lines spread evenly over it, and its last one.

The one hard idea: lines are found by their place in the file, not by their number. A seek into the middle and the next newline give a line
of about that time, so a curve of forty points costs forty short reads, however long the run is. Torn lines are passed over.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from heron.run.records import Record

REACH = 1 << 20
"""Bytes at the end of a file in which its last line is looked for."""


def spread(path: Path, count: int) -> list[Record]:
    """At most `count` records from the whole file, in order, the first and the last among them."""
    if not path.exists():
        return []
    size = path.stat().st_size
    with open(path, "rb") as file:
        found = [_after(file, index * size // count) for index in range(count)]
    steps = {record["step"]: record for record in [*found, last(path)] if record is not None and "step" in record}
    return [steps[step] for step in sorted(steps)]


def last(path: Path) -> Record | None:
    """The last complete record; None where there is none."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - REACH))
        lines = file.read().split(b"\n")[:-1]
    return next((record for line in reversed(lines[-3:]) if (record := _parsed(line)) is not None), None)


def _after(file: IO[bytes], place: int) -> Record | None:
    """The first record that begins at `place` or later."""
    file.seek(max(0, place - 1))
    if place:
        file.readline()
    return _parsed(file.readline())


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
