"""The rollout files of a run: which there are, which of them are indexed, and whether those are still the same.

The one hard idea: a group's number is made of its step and its place there, so that order by number is order in time, and a page of the
newest groups is a walk along the table and never a sort.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from heron.run.index.rows import GroupRows, groups_of, lengths_of, marks_of, mean_reward, prompt_of, siblings_of, words_of
from heron.run.index.store import MARKS, Writing
from heron.run.own import is_inside, is_own
from heron.run.reader import rollout_file, step_of

PLACES = 1 << 20
"""Numbers that the groups of a step may have."""
PATIENCE = 30
"""A folder is listed again after so many times as long as listing it took."""
PLACE = "SELECT start, groups.size, files.size, modified FROM groups JOIN files ON step = ? WHERE id = ?"
SETTLED_NS = 100_000_000
"""A change so soon after another one may leave the folder's time as it is."""


class Folder:
    """The steps that have a rollouts file: listed when the folder may have changed, and not more often than is cheap."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "rollouts"
        self._next = 0.0
        self.seen: int | None = None
        """When the folder was changed last, once that is certain."""
        self.count = 0
        """How many steps there are."""

    def news(self) -> set[int] | None:
        """The steps, listed anew; None if they cannot have changed, or were listed just now."""
        began = time.monotonic()
        is_there = self._path.is_dir() and is_inside(self._directory, self._path)
        modified = self._path.stat().st_mtime_ns if is_there else 0
        if modified == self.seen or began < self._next:
            return None
        steps = _steps_in(os.listdir(self._path)) if modified else set()
        self.seen = modified if time.time_ns() - modified > SETTLED_NS else None
        self.count = len(steps)
        self._next = time.monotonic() + PATIENCE * (time.monotonic() - began)
        return steps

    def hurry(self) -> None:
        """List at the next look, if there is reason to, however long it takes."""
        self._next = 0.0

    def believe(self, seen: int, count: int) -> None:
        """So it was when all was indexed: if it is not any more, the next look lists it."""
        self.seen, self.count, self._next = seen, count, 0.0


def read_some(writing: Writing, directory: Path, steps: Sequence[int], until: float) -> list[int]:
    """Index these steps, in order, until that moment, but at least one; those that are left. Files that are gone, or not the run's, are
    passed over."""
    known = {step for (step,) in writing.rows("SELECT step FROM files WHERE step BETWEEN ? AND ?", min(steps), max(steps))}
    left = sorted(set(steps) - known)
    while left:
        _add(writing, directory, left.pop(0))
        if time.monotonic() > until:
            break
    return left


def steps_known(writing: Writing) -> set[int]:
    """That are indexed."""
    return {step for (step,) in writing.rows("SELECT step FROM files")}


def is_contradicted(writing: Writing, directory: Path, settled: int) -> bool:
    """True if a file of a later step than `settled` is not the one that was read. Earlier ones change only together with the metrics."""
    for step, size, modified in writing.rows("SELECT step, size, modified FROM files WHERE step > ?", settled):
        try:
            if identity(rollout_file(directory, step)) != (size, modified):
                return True
        except FileNotFoundError:
            return True
    return False


def identity(path: Path) -> tuple[int, int]:
    """What changes when the file is written anew."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def group_id(step: int, number: int) -> int:
    """Later steps have larger ones."""
    return step * PLACES + number


def _steps_in(names: Sequence[str]) -> set[int]:
    return {step for name in names if (step := step_of(name)) is not None}


def _add(writing: Writing, directory: Path, step: int) -> None:
    path = rollout_file(directory, step)
    if not is_own(directory, path):
        return
    try:
        status, data = identity(path), path.read_bytes()
    except FileNotFoundError:  # taken back in the meantime
        return
    groups, spoilt = groups_of(data)
    writing.rows("INSERT INTO files VALUES (?, ?, ?, ?)", step, *status, lengths_of(groups).tobytes())
    for group in sorted(groups, key=lambda group: group.number):
        _add_group(writing, step, group)
    if spoilt:
        writing.note("spoilt rows", writing.state("spoilt rows", 0) + spoilt)


def _add_group(writing: Writing, step: int, group: GroupRows) -> None:
    rows = group.rows
    number, prompt, marks = group_id(step, group.number), _prompt(writing, prompt_of(rows)), marks_of(rows)
    writing.rows(
        "INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)",
        number, prompt, marks, mean_reward(rows), group.start, group.end - group.start, siblings_of(rows),
    )  # fmt: skip
    if writing.has_search:
        borne = " ".join([prompt_word(prompt), *(mark_word(mark) for bit, mark in enumerate(MARKS) if marks >> bit & 1)])
        writing.rows("INSERT INTO search (rowid, marks, body) VALUES (?, ?, ?)", number, borne, words_of(rows))


def mark_word(mark: str) -> str:
    """A mark as the search knows it: one word."""
    return mark.replace("-", "")


def prompt_word(prompt: int) -> str:
    """A prompt as the search knows it."""
    return f"prompt{prompt}"


def _prompt(writing: Writing, prompt: tuple[str, str, str]) -> int:
    """Its number. It comes back in every epoch, and is kept once."""
    key = hashlib.blake2b("\0".join(prompt).encode(), digest_size=16).digest()
    known = writing.rows("SELECT id FROM prompts WHERE key = ?", key)
    if not known:
        known = writing.rows("INSERT INTO prompts (key, prompt, question, answer) VALUES (?, ?, ?, ?) RETURNING id", key, *prompt)
    number: int = known[0][0]
    return number
