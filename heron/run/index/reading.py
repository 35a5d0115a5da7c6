"""What a refresh does: look whether the run is still the one that was read, then read on, a little at a time.

The one hard idea: the first look must not wait for the last byte. So the newest groups are read first; of metrics that are not indexed
yet, a few hundred lines from all over the file stand in for them until they are; the rest follows in small transactions. If the run's
files contradict what was read (a resume took steps back, another run lies at the same path), everything is read anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from heron.run.index import columns, lines, rollouts
from heron.run.index.shelf import note_path
from heron.run.index.store import Store, Writing
from heron.run.own import own
from heron.run.records import Record, parsed

AT_ONCE = 64
"""Steps whose rollouts are read in one transaction."""
AT_FIRST = 16
"""The same for the first ones, which are read in any case."""
MUCH = 1 << 22
"""Bytes of unread metrics from which on a sketch stands in for them."""
SKETCH = 300
"""Lines of it."""
NEWEST = 100
"""The last lines, which it has without gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the index has come."""

    metrics_bytes_done: int
    """Of `metrics.jsonl`."""
    metrics_bytes_total: int
    """Its size."""
    rollouts_done: int
    """Steps whose rollouts are indexed."""
    rollouts_total: int
    """Steps that have rollouts."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be read; a torn last line is left."""
        return self.rollouts_done == self.rollouts_total and self.metrics_bytes_done == self.metrics_bytes_total


class Reading:
    """The reader of one run. Used by one thread at a time."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._store = store
        self._metrics = path / "metrics.jsonl"
        self._folder = rollouts.Folder(path)
        self._waiting: list[int] = []
        self._generation = 0
        self.sketch: list[Record] = []
        """Records that stand in for metrics that are not indexed yet."""

    def refresh(self, seconds: float) -> Progress:
        """Read what is new for about so many seconds, but at least something."""
        until = time.monotonic() + seconds
        if seconds == float("inf"):
            self._folder.hurry()
        self._look()
        while self._read_some(until) and time.monotonic() < until:
            pass
        return self._progress()

    def _look(self) -> None:
        """See whether what was read is still true, and what is new."""
        own(self._path, self._metrics.name)
        with self._store.writing() as writing:
            if writing is None:
                return
            if self._is_contradicted(writing):
                writing.start_over()
            note_path(writing, self._path)
            writing.note("metrics inode", self._inode())
            self._list(writing)
            offset = writing.state("metrics read", 0)
            if self._size() - offset > MUCH and not self.sketch:
                self.sketch = self._sketched(offset)

    def _is_contradicted(self, writing: Writing) -> bool:
        """A resume puts another file in the place of the metrics, which may read the same: then no rollouts count as settled."""
        settled = writing.state("settled", 0) if writing.state("metrics inode") == self._inode() else 0
        return columns.is_contradicted(writing, self._metrics) or rollouts.is_contradicted(writing, self._path, settled)

    def _list(self, writing: Writing) -> None:
        """Which steps wait; all of them if the index began anew, here or in another process."""
        generation = writing.state("generation")
        if generation != self._generation:
            self._folder.believe(*map(int, writing.state("folder", "-1 0").split()))
            self._waiting, self.sketch = [], []
        if (steps := self._folder.news()) is not None:
            known = rollouts.steps_known(writing)
            if known - steps:
                writing.start_over()
                known = set()
            self._waiting = sorted(steps - known)
        self._generation = writing.state("generation")

    def _read_some(self, until: float) -> bool:
        """One transaction: the newest groups if none are known, then metrics, then the other groups from the newest on."""
        with self._store.writing() as writing:
            if writing is None:
                return False
            if self._waiting and not writing.rows("SELECT 1 FROM files LIMIT 1"):
                self._read_rollouts(writing, AT_FIRST, float("inf"))
                return True
            if self._metrics.exists() and columns.read_some(writing, self._metrics):
                return True
            self.sketch = []
            writing.note("settled", columns.last_step(writing))
            self._read_rollouts(writing, AT_ONCE, until)
            if not self._waiting and self._folder.seen is not None:
                writing.note("folder", f"{self._folder.seen} {self._folder.count}")
            return bool(self._waiting)

    def _read_rollouts(self, writing: Writing, count: int, until: float) -> None:
        if self._waiting:
            self._waiting[-count:] = rollouts.read_some(writing, self._path, self._waiting[-count:], until)

    def _sketched(self, offset: int) -> list[Record]:
        """Records from all over what is unread, and the newest ones."""
        found, _ = parsed([*lines.here_and_there(self._metrics, offset, SKETCH), *lines.last_lines(self._metrics, NEWEST)])
        by_step = {record["step"]: record for record in found}
        return [by_step[step] for step in sorted(by_step)]

    def _progress(self) -> Progress:
        return Progress(
            metrics_bytes_done=self._store.state("metrics read", 0), metrics_bytes_total=self._size(),
            rollouts_done=self._folder.count - len(self._waiting), rollouts_total=self._folder.count,
        )  # fmt: skip

    def _size(self) -> int:
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def _inode(self) -> int | None:
        return self._metrics.stat().st_ino if self._metrics.exists() else None
