"""The order of rows that become more: that of a fixed dataset where none come, and a function of when they came where some do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heron.data import GrowingCursor, PromptCursor
from heron.data.growing import Place, complete_bytes


def growing(rows: int, batch_size: int = 3, *, shuffle: bool = True) -> GrowingCursor:
    return GrowingCursor(batch_size, Place.at_start(rows, size=0, lines=0), seed=1, shuffle=shuffle)


def grown(cursor: GrowingCursor, rows: int) -> None:
    cursor.place = replace(cursor.settle(), rows=rows)


@pytest.mark.parametrize("shuffle", [True, False])
def test_without_new_rows_it_is_the_order_of_a_fixed_dataset(shuffle: bool) -> None:
    """Prevents: another run for who says --forever."""
    cursor, fixed = growing(7, shuffle=shuffle), PromptCursor(7, 3, seed=1, shuffle=shuffle)
    for step in range(1, 20):
        assert cursor.batch(step) == fixed.batch(step)
        cursor.settle()


def test_new_rows_go_first_and_then_belong_to_every_epoch() -> None:
    """Prevents: rows that wait for the end of an epoch of days, or are drawn in one epoch alone; rows that the growth leaves out."""
    cursor = growing(6, 2)
    first = cursor.batch(1)
    grown(cursor, 9)
    assert cursor.batch(2) == (6, 7)
    cursor.settle()
    rest = [row for step in (3, 4, 5) for row in cursor.batch(step)]
    assert rest[0] == 8 and sorted([*first, *rest[1:5]]) == [0, 1, 2, 3, 4, 5], "the first epoch is of the rows that were there"
    everything = cursor.window(10, 8)
    assert sorted([rest[5], *everything]) == list(range(9))


def test_a_place_is_all_that_is_needed() -> None:
    """Prevents: a resumed run that draws other prompts."""
    cursor = growing(5)
    for step in range(1, 4):
        cursor.batch(step)
        grown(cursor, 5 + step)
    there = GrowingCursor(3, cursor.place, seed=1, shuffle=True)
    assert [there.batch(step) for step in range(4, 12)] == [cursor.batch(step) for step in range(4, 12)]
    assert there.settle() == cursor.settle()


def test_asking_twice_is_asking_once() -> None:
    """Prevents: a step that is taken anew, since memory ran out, on other prompts; windows within a step that do not join."""
    cursor = growing(5)
    assert cursor.batch(1) == cursor.batch(1) == cursor.window(0, 3)
    assert (*cursor.batch(1), *cursor.window(3, 2)) == cursor.window(0, 5)
    assert cursor.settle().position == 5


@pytest.mark.parametrize(
    ("content", "size"), [(b"", 0), (b"a", 0), (b"a\n", 2), (b"a\nb", 2), (b"a\n\n", 3), (b"a\n" + b"b" * 3_000_000, 2)]
)
def test_whole_lines(content: bytes, size: int, tmp_path: Path) -> None:
    """Prevents: half a row that is trained on, or told as a malformed one, while somebody is still writing it."""
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert complete_bytes(tmp_path / "rows.jsonl") == size
