"""The figures of `metrics.jsonl` by name: each a column, in chunks of steps.

The one hard idea: a line holds all figures of one step, a screen wants one figure of all steps. So lines are turned by ninety degrees, a
few hundred at a time, into packed arrays; a curve is then a hundred small reads, and a live run rewrites only its newest chunk.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heron.run.averages import is_finite
from heron.run.index.lines import fingerprint, read_on
from heron.run.index.store import Store, Writing
from heron.run.index.thinning import MISSING, peaks_of, without_missing
from heron.run.records import Record, parsed

CHUNK = 512
"""Steps; a whole number of blocks of peaks."""
SLICE = 1 << 21
"""Bytes that are read in one transaction."""

EARLIER = "SELECT columns.name, data FROM names JOIN columns ON columns.name = names.id AND chunk = ?"
COLUMN = "SELECT chunk, data, peaks FROM columns WHERE name = (SELECT id FROM names WHERE name = ?) AND chunk >= ? ORDER BY chunk"

Column = tuple["array[int]", "array[float]", bytes]
"""Steps, the values at them, and the peaks of the values where those are known."""


def read_some(writing: Writing, path: Path) -> int:
    """Index the next lines of the file; how many bytes they were."""
    offset = writing.state("metrics read", 0)
    lines = read_on(path, offset, SLICE)
    if not lines:
        return 0
    records, spoilt = parsed(lines)
    _add(writing, records)
    size = sum(map(len, lines))
    writing.note("metrics read", offset + size)
    writing.note("metrics print", fingerprint(path, offset + size))
    writing.note("spoilt lines", writing.state("spoilt lines", 0) + spoilt)
    return size


def is_contradicted(writing: Writing, path: Path) -> bool:
    """True if the file is no longer the one that was read: steps were taken back, or it is another run's."""
    offset = writing.state("metrics read", 0)
    if offset == 0:
        return False
    return not path.exists() or fingerprint(path, offset) != writing.state("metrics print")


def names(store: Store) -> list[str]:
    """In the order in which they first were logged."""
    return [name for (name,) in store.rows("SELECT name FROM names ORDER BY id")]


def last_step(store: Store | Writing) -> int:
    """That is indexed; 0 if none is."""
    rows = store.rows("SELECT last FROM chunks ORDER BY id DESC LIMIT 1")
    return rows[0][0] if rows else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps of some chunks, read once for all figures."""

    chunks: dict[int, int]
    """How many steps each chunk has, in order."""
    steps: array[int]
    """All of them."""
    skipped: int
    """How many of them come too early."""


def steps_after(store: Store, after: int) -> Steps:
    """The chunks that hold later steps."""
    rows = store.rows("SELECT id, steps FROM chunks WHERE last > ? ORDER BY id", after)
    steps = array("q", b"".join(packed for _, packed in rows))
    return Steps(
        chunks={number: len(packed) // steps.itemsize for number, packed in rows}, steps=steps,
        skipped=sum(step <= after for step in steps[:CHUNK]),
    )  # fmt: skip


def column(store: Store, name: str, within: Steps) -> Column:
    """Every such step at which the figure was logged, and its value."""
    first = next(iter(within.chunks), 0)
    found = store.rows(COLUMN, name, first)
    packed = {number: data for number, data, _ in found}
    missing = array("d", [MISSING]).tobytes()
    values = array("d", b"".join(packed.get(number) or missing * count for number, count in within.chunks.items()))
    steps, logged = without_missing(within.steps[within.skipped :], values[within.skipped :])
    is_whole = len(logged) == len(values)
    return steps, logged, b"".join(peaks for _, _, peaks in found) if is_whole else b""


def column_of(records: Sequence[Record], name: str) -> Column:
    """The same of records that are not indexed yet."""
    steps = array("q", [record["step"] for record in records])
    return *without_missing(steps, _packed([record.get(name, MISSING) for record in records])), b""


def _add(writing: Writing, records: Sequence[Record]) -> None:
    """Fill the newest chunk, and begin new ones."""
    known = dict(writing.rows("SELECT name, id FROM names"))
    fresh = dict.fromkeys(name for record in records for name in record if name not in known)
    fresh.pop("step", None)
    writing.many("INSERT INTO names (name) VALUES (?)", [(name,) for name in fresh])
    known = dict(writing.rows("SELECT name, id FROM names"))
    (newest,) = writing.rows("SELECT id, steps FROM chunks ORDER BY id DESC LIMIT 1") or [(0, b"")]
    number, room = newest[0], CHUNK - len(newest[1]) // array("q").itemsize
    while records:
        if room <= 0 or number == 0:
            number, room = number + 1, CHUNK
        _extend(writing, number, records[:room], known)
        records, room = records[room:], 0


def _extend(writing: Writing, number: int, records: Sequence[Record], names: dict[str, int]) -> None:
    """Put the records behind what the chunk holds."""
    steps = array("q")
    for (packed,) in writing.rows("SELECT steps FROM chunks WHERE id = ?", number):
        steps.frombytes(packed)
    before = len(steps)
    earlier = dict(writing.rows(EARLIER, number)) if before else {}
    steps.extend(record["step"] for record in records)
    missing = array("d", [MISSING]) * before
    rows = []
    for name in _logged(records, names, earlier):
        values = array("d", earlier.get(names[name], missing.tobytes())) + _packed([record.get(name, MISSING) for record in records])
        rows.append((names[name], number, values.tobytes(), peaks_of(values)))
    writing.many("INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)", rows)
    writing.rows("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)", number, steps[-1], steps.tobytes())


def _logged(records: Iterable[Record], names: dict[str, int], earlier: dict[int, bytes]) -> list[str]:
    """Figures that the chunk holds or is to hold."""
    found = {name for record in records for name in record}
    return [name for name, number in names.items() if name in found or number in earlier]


def _packed(values: list[Any]) -> array[float]:
    """Nearly always all are numbers; what is not becomes NaN, as a number that was not finite does."""
    try:
        return array("d", values)
    except (TypeError, OverflowError):
        return array("d", [float(value) if is_finite(value) or value == MISSING else math.nan for value in values])
