"""The order of rows depends on the seed and the step alone, and leaves nothing out."""

import random

import pytest

from heron.data import PromptCursor
from heron.errors import DataError


def drawn(cursor, steps):
    return [row for step in range(1, steps + 1) for row in cursor.batch(step)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("num_rows", "batch_size"), [(10, 3), (7, 7), (5, 12), (1, 4)])
def test_every_epoch_holds_every_row_once(num_rows, batch_size, shuffle):
    """Rows at the end of an epoch would never be trained on, or be drawn twice."""
    rows = drawn(PromptCursor(num_rows, batch_size, seed=0, shuffle=shuffle), steps=num_rows * 3)
    for begin in range(0, len(rows), num_rows):
        assert sorted(rows[begin : begin + num_rows]) == list(range(num_rows))


def test_epochs_have_different_orders():
    rows = drawn(PromptCursor(50, 50, seed=0, shuffle=True), steps=3)
    assert len({tuple(rows[begin : begin + 50]) for begin in (0, 50, 100)}) == 3


def test_without_shuffling_rows_come_in_order():
    assert drawn(PromptCursor(4, 3, seed=9, shuffle=False), steps=3) == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_a_step_can_be_asked_for_by_itself():
    """A resumed run would train on other rows than the run that was not interrupted."""
    whole = [PromptCursor(31, 4, seed=5, shuffle=True).batch(step) for step in range(1, 40)]
    assert PromptCursor(31, 4, seed=5, shuffle=True).batch(39) == whole[38]
    assert [PromptCursor(31, 4, seed=5, shuffle=True).batch(step) for step in (20, 3)] == [whole[19], whole[2]]


def test_the_seed_decides_the_order():
    assert PromptCursor(31, 8, seed=0, shuffle=True).batch(1) != PromptCursor(31, 8, seed=1, shuffle=True).batch(1)


def test_the_order_does_not_change_between_versions():
    """Old runs could not be repeated if the drawing changed."""
    assert PromptCursor(8, 8, seed=0, shuffle=True).batch(1) == (6, 1, 4, 2, 5, 7, 3, 0)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(0, 4), (4, 0)])
def test_no_rows_give_no_batches(num_rows, batch_size):
    with pytest.raises(DataError, match="A batch needs rows"):
        PromptCursor(num_rows, batch_size, seed=0, shuffle=True)


def test_orders_are_drawn_once_an_epoch_and_kept_by_the_cursor_alone(monkeypatch):
    """Prevents: rows shuffled anew for each row of a batch, and orders kept for the whole process."""
    shuffled = []
    shuffle = random.Random.shuffle
    monkeypatch.setattr(random.Random, "shuffle", lambda self, rows: (shuffled.append(len(rows)), shuffle(self, rows)))
    for expected in (3, 6):
        cursor = PromptCursor(1003, 17, seed=3, shuffle=True)
        assert len(set(drawn(cursor, steps=60))) == 1003 and len(drawn(cursor, steps=1)) == 17
        assert len(shuffled) == expected, "two epochs, and the first one again"
    assert cursor == PromptCursor(1003, 17, seed=3, shuffle=True), "what is kept is no part of its value"
    assert hash(cursor) == hash(PromptCursor(1003, 17, seed=3, shuffle=True))
