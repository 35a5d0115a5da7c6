"""One run's index, as a page asks it.

The one hard idea: what stands at the file's ends is read from there, and is always new; what would need the whole record is asked of
tables. So a page is true to the last step even while the index is far behind.

Left out: evaluations and events, which are small and which `Run` reads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from heron.folders import cache_folder
from heron.run import records
from heron.run.index import columns, groups, lines, rollouts
from heron.run.index.groups import Page, Query
from heron.run.index.lengths import Lengths, lengths
from heron.run.index.reading import Progress, Reading
from heron.run.index.shelf import open_store
from heron.run.index.thinning import Curve, curve_of
from heron.run.own import is_own, own
from heron.run.reader import Run, rollout_file
from heron.run.records import Record


class Index:
    """The index of a run, in `folder` or in the user's cache. Any thread may call anything; one of them refreshes at a time."""

    def __init__(self, run: Run, folder: Path | None = None, *, has_search: bool | None = None) -> None:
        self.run = run
        self._path = run.path.resolve()
        self._store = open_store(folder or cache_folder() / "index", self._path, has_search=has_search)
        self._reading = Reading(self._path, self._store)
        self._refreshing = threading.Lock()

    @property
    def generation(self) -> int:
        """Grows when what was known became untrue."""
        return int(self._store.state("generation"))

    @property
    def torn(self) -> int:
        """Lines that a kill, or a spoilt disk, left incomplete. They are left out."""
        spoilt = self._store.state("spoilt lines", 0) + self._store.state("spoilt rows", 0)
        return int(spoilt) + sum(records.is_torn(own(self._path, name)) for name in ("metrics.jsonl", "events.jsonl"))

    def refresh(self, seconds: float | None = None) -> Progress:
        """Read what is new: all of it, or for about so many seconds. Another process that is at it is not waited for."""
        with self._refreshing:
            return self._reading.refresh(seconds if seconds is not None else float("inf"))

    def names(self) -> list[str]:
        """Every figure that was logged, in the order of its first appearance."""
        sketched = [name for record in self._reading.sketch for name in record if name != "step"]
        return list(dict.fromkeys([*columns.names(self._store), *sketched]))

    def last_step(self) -> int:
        """The newest recorded step; 0 if there is none."""
        newest = self.latest(1)
        return int(newest[-1]["step"]) if newest else 0

    def first(self, count: int) -> list[Record]:
        """The oldest so many records, in order."""
        return lines.first_records(own(self._path, "metrics.jsonl"), count)

    def latest(self, count: int) -> list[Record]:
        """The newest so many records, in order."""
        return lines.last_records(own(self._path, "metrics.jsonl"), count)

    def curves(self, names: Sequence[str], *, after: int = 0, points: int = 600) -> dict[str, Curve]:
        """Each figure over the steps after that one, thinned so that no spike is lost; one that nobody logged has no points."""
        sketch = self._reading.sketch
        with self._store.snapshot():
            within = columns.steps_after(self._store, after)
            known = max(after, columns.last_step(self._store))
            indexed = {name: columns.column(self._store, name, within) for name in names}
        ahead = [record for record in sketch if record["step"] > known]
        return {name: _curve(column, columns.column_of(ahead, name), points) for name, column in indexed.items()}

    def groups(
        self, *, step: int | None = None, filter: str = "all", search: str = "", prompt: str | None = None, order: str = "step",
        limit: int = 20, offset: int = 0,
    ) -> Page:  # fmt: skip
        """A page of groups. `filter` is one of `FILTERS`, `order` one of `ORDERS`; `prompt` gives the same prompt over time."""
        query = Query(step=step, filter=filter, search=search, prompt=prompt, order=order)
        return groups.find(self._store, query, limit=limit, offset=offset)

    def group(self, step: int, number: int) -> list[Record]:
        """All that was recorded of a group's rollouts, with their texts; RunError if the step has none, nothing if it has no such group."""
        rows = self._rows_at(step, number) or self.run.rollouts(step)
        return [row for row in rows if row["group"] == number]

    def lengths(self, step_from: int, step_to: int, bins: int = 30) -> Lengths:
        """A histogram of the lengths of the answers in these steps, both ends included."""
        return lengths(self._store, step_from, step_to, bins)

    def close(self) -> None:
        """Let go of the file. Waits for a refresh that is under way."""
        with self._refreshing:
            self._store.close()

    def _rows_at(self, step: int, number: int) -> list[Record]:
        """The rows at the place that is indexed, if their file is still the one that was; else none."""
        path = rollout_file(self._path, step)
        is_readable = path.exists() and is_own(self._path, path)
        found = self._store.rows(rollouts.PLACE, step, rollouts.group_id(step, number)) if is_readable else []
        if not found or found[0][2:] != rollouts.identity(path):
            return []
        start, size = found[0][:2]
        with open(path, "rb") as file:
            file.seek(start)
            return records.parsed(file.read(size).splitlines(), "group")[0]


def _curve(indexed: columns.Column, ahead: columns.Column, points: int) -> Curve:
    steps, values, peaks = indexed
    return curve_of(steps + ahead[0], values + ahead[1], points, b"" if ahead[0] else peaks)
