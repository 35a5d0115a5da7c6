"""A file of JSON lines that rows are appended to while they are trained on: which of its lines are whole, and in which order rows come.

The one hard idea: the order of rows is a sequence that depends on when they came, so a place in it (`Place`, a few numbers) is all that a
checkpoint needs: from there on the sequence is a function of the seed and of the rows that come later. Rows that have just come go first,
in the order of the file; when there are none, epochs over all rows go on, each a permutation of the rows that were there when it began.
Without new rows the order is `PromptCursor`'s. What it leaves out: what a row must be (the trainer asks that).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from heron.data.cursor import PromptCursor

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the order of a growing file's rows."""

    rows: int
    """That are known."""
    fresh: int
    """The first of them that has not been drawn since it came; all of `rows` if there is none."""
    epoch_rows: int
    """That were known when the epoch began."""
    epoch: int = 0
    """Epochs before this one."""
    index: int = 0
    """Rows of the epoch that were drawn."""
    position: int = 0
    """Rows that were drawn in all."""
    bytes: int = 0
    """Of the file, up to the end of the last line that was taken."""
    lines: int = 0
    """In these bytes."""

    @classmethod
    def at_start(cls, rows: int, *, size: int, lines: int) -> Place:
        """Before the first row is drawn, of a file with so many."""
        return cls(rows=rows, fresh=rows, epoch_rows=rows, bytes=size, lines=lines)


@dataclass(slots=True)
class GrowingCursor:
    """Row indices of each step, like `PromptCursor`'s, of rows that become more. What is drawn is known from `place` on only."""

    batch_size: int
    """Rows of a step."""
    place: Place
    """As of the last `settle`."""
    seed: int
    """Decides the order of every epoch."""
    shuffle: bool
    """False: every epoch is in the file's order."""
    asked: int = field(default=0, init=False)
    """The end of what was drawn."""
    _epochs: PromptCursor | None = field(default=None, init=False, repr=False)
    """The order of the epoch under way, which is not drawn again for every step."""

    @property
    def num_rows(self) -> int:
        """Rows that are known."""
        return self.place.rows

    def batch(self, step: int) -> tuple[int, ...]:
        """The rows of `step`, which counts from 1."""
        return self.window((step - 1) * self.batch_size, self.batch_size)

    def window(self, begin: int, count: int) -> tuple[int, ...]:
        """`count` rows from place `begin` of the sequence on."""
        assert begin >= self.place.position, "what was drawn before the last settle is not known any more"
        self.asked = max(self.asked, begin + count)
        rows, _ = self._walk(begin + count)
        return tuple(rows[begin - self.place.position :])

    def settle(self) -> Place:
        """Up to what was asked for, everything is drawn."""
        if self.asked > self.place.position:
            self.place = self._walk(self.asked)[1]
        return self.place

    def _walk(self, end: int) -> tuple[list[int], Place]:
        """The rows from here up to a place of the sequence, and that place."""
        place, rows = self.place, list[int]()
        while place.position < end:
            if place.fresh < place.rows:
                rows.append(place.fresh)
                place = replace(place, fresh=place.fresh + 1, position=place.position + 1)
                continue
            if place.index == place.epoch_rows:
                place = replace(place, epoch=place.epoch + 1, index=0, epoch_rows=place.rows)
            count = min(place.epoch_rows - place.index, end - place.position)
            rows += self._epoch_of(place.epoch_rows).window(place.epoch * place.epoch_rows + place.index, count)
            place = replace(place, index=place.index + count, position=place.position + count)
        return rows, place

    def _epoch_of(self, rows: int) -> PromptCursor:
        """Epochs of so many rows."""
        if self._epochs is None or self._epochs.num_rows != rows:
            self._epochs = PromptCursor(rows, 1, seed=self.seed, shuffle=self.shuffle)
        return self._epochs


def complete_bytes(path: Path) -> int:
    """Bytes of a file up to the end of its last line that is whole."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


def part_of(path: Path, begin: int, end: int) -> bytes:
    """These bytes of a file; fewer where it is shorter."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(max(0, end - begin))
