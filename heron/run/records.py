"""Files that survive `kill -9`: lines that are appended whole, and small files that are replaced in one step.

The one hard idea: a line is handed to the operating system with a single write, unbuffered, and counts only once it ends in
a newline. So a killed process leaves at most one torn line, at the very end, which readers ignore and `cut` removes; a process that lives
on, since the disk was full, takes the half of a line back itself.

Left out: a power cut. Small files are on the disk when `replace` returns; what was appended is left to `syncing`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from heron.errors import RunError

Record = dict[str, Any]
"""One line of a record file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What can be read of a record file."""

    records: list[Record]
    """Its complete lines, in order."""
    spoilt: int
    """How many complete lines are none. A torn last line is still to be ended, and is not counted."""


_COMPACT = json.JSONEncoder(allow_nan=False)


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line with one write; it is with the operating system when this returns. If it raises, nothing was added."""
    with open(path, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            _write_whole(file.fileno(), _line(record))
        except BaseException:
            with contextlib.suppress(OSError):  # the error that is raised is the one that matters
                file.truncate(before)
            raise


def write_lines(path: Path, records: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
    """Write a whole file of lines; nobody ever sees half of it."""
    replace(path, b"".join(map(_line, records)), sync=sync)


def read_lines(path: Path, needed: str, kind: type) -> Lines:
    """Every complete line that is a record and has `needed` of that kind; none if the file does not exist."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    records, spoilt = parsed(lines, needed, kind)
    return Lines(records=records, spoilt=spoilt)


def read_strictly(path: Path) -> list[Record]:
    """Every complete line; none if the file does not exist. A torn last line is ignored, a bad one before it is an error."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    found = [_record(line) for line in lines[:-1]]
    if found and found[-1] is None and not lines[-1]:
        found.pop()
    if None in found:
        raise RunError(f"{path}:{found.index(None) + 1} is not a JSON object. Restore the file from a copy, or remove that line.")
    return [record for record in found if record is not None]


def parsed(lines: Iterable[bytes], needed: str = "step", kind: type = int) -> tuple[list[Record], int]:
    """The records among the lines, and how many lines are none: a spoilt one is counted and must not hide the others."""
    found = [_record(line) for line in lines]
    records = [record for record in found if record is not None and isinstance(record.get(needed), kind)]
    return records, len(found) - len(records)


def is_torn(path: Path) -> bool:
    """Whether its last line is incomplete, as a kill in the middle of a write leaves it; readers ignore that line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def count_lines(path: Path) -> int:
    """Complete lines of a file; 0 if it does not exist."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def cut(path: Path, keep: Callable[[Record], bool]) -> None:
    """Rewrite the file with the complete lines that `keep` wants: this also removes a torn last line."""
    if path.exists():
        write_lines(path, [record for record in read_strictly(path) if keep(record)])


def replace(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put new content in a file's place in one step: a reader, or a kill, finds the old or the new content, never a mixture. It is on the
    disk when this returns, unless somebody else will `sync` it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: a number that is not finite becomes null, and text is escaped to ASCII."""
    encode = _COMPACT.encode if indent is None else json.JSONEncoder(allow_nan=False, indent=indent).encode
    try:
        return encode(value)
    except (ValueError, TypeError):  # a number that is not finite, or a mapping that is no dict
        return encode(_finite(value))


def _record(line: bytes) -> Record | None:
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _line(record: Mapping[str, Any]) -> bytes:
    """What `to_json` writes, a newline behind it; the quick way knows neither other alphabets' escapes nor halves of characters."""
    with contextlib.suppress(TypeError):
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if line.isascii():
            return line
    return to_json(record).encode("ascii") + b"\n"


def _write_whole(descriptor: int, data: bytes) -> None:
    """`write` may take only a part when the disk is nearly full; the rest then raises instead of being lost in silence."""
    while data:
        data = data[os.write(descriptor, data):]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
