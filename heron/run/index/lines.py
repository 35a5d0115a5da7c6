"""A file of lines that may be hundreds of megabytes long and is still being written: read onwards, from its end, and here and there.

The one hard idea: a line counts once it ends in a newline, and its place is its offset in bytes. So what was read so far is one number,
and a few bytes before that place tell whether the file is still the one that was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from heron.run.records import Record, parsed

BLOCK = 1 << 16
SPOILT = 2
"""Lines at the end that a power cut may have spoilt."""
PRINT = 4096
"""Bytes before a place that identify it."""


def read_on(path: Path, offset: int, limit: int) -> list[bytes]:
    """Complete lines from `offset` on, newline included, of about `limit` bytes; at least one, if there is one."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(limit)
        while data and b"\n" not in data and (more := file.read(limit)):
            data += more
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True) if b"\n" in data else []


def first_records(path: Path, count: int) -> list[Record]:
    """The oldest ones, in order; none if there is no file."""
    found: list[Record] = []
    offset = 0
    while path.exists() and len(found) < count and (more := read_on(path, offset, BLOCK)):
        found += parsed(more)[0]
        offset += sum(map(len, more))
    return found[:count]


def last_records(path: Path, count: int) -> list[Record]:
    """The newest ones, in order; none if there is no file."""
    return parsed(last_lines(path, count + SPOILT))[0][-count:] if path.exists() else []


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last complete ones, in order."""
    with open(path, "rb") as file:
        start = file.seek(0, 2)
        data = b""
        while start > 0 and data.count(b"\n") <= count:
            step = min(start, max(BLOCK, len(data)))
            start = file.seek(start - step)
            data = file.read(step) + data
    complete = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    return complete[-count:] if start == 0 else complete[1:][-count:]


def here_and_there(path: Path, start: int, count: int) -> list[bytes]:
    """Complete lines at even distances from `start` to the end, in order; one that is met twice counts once."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        places = [start + (end - start) * number // count for number in range(count)]
        found = dict(line for place in places for line in _line_after(file, place, start))
    return list(found.values())


def spread(path: Path, count: int) -> list[Record]:
    """Records from the whole file, in order, at most `count` and the last one; none if there is no file. So many short reads, however
    long it is."""
    if not path.exists():
        return []
    found = parsed(here_and_there(path, 0, count))[0] + last_records(path, 1)
    return list({record["step"]: record for record in found}.values())


def fingerprint(path: Path, offset: int) -> str:
    """Of the bytes just before the place."""
    with open(path, "rb") as file:
        file.seek(max(0, offset - PRINT))
        return hashlib.blake2b(file.read(min(offset, PRINT)), digest_size=16).hexdigest()


def _line_after(file: BinaryIO, place: int, start: int) -> Iterator[tuple[int, bytes]]:
    """The first complete line that begins at or after the place, by its offset."""
    file.seek(max(start, place - 1))
    if place > start:
        file.readline()
    offset = file.tell()
    line = file.readline()
    if line.endswith(b"\n"):
        yield offset, line
