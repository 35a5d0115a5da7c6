"""The runs of a folder, by name, each opened when it is first asked for.

The one hard idea: a page that asks every second must be cheap. Of a run, what was made from a file is kept until that file changes; its
numbers and rollouts come from an index, which `freshness` keeps up to date. A run that nobody has looked at for a while is closed, so that
many runs cost no more than a few.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from heron.dashboard.freshness import Freshness
from heron.dashboard.whole import Whole
from heron.errors import RunError
from heron.run import Run, list_runs
from heron.run.index import Index

KEPT_S = 120.0
"""Seconds after which a run that nobody looks at is closed."""

T = TypeVar("T")


class OpenRun:
    """One run that is being looked at."""

    def __init__(self, name: str, run: Run) -> None:
        self.name = name
        self.run = run
        self.lies_at = run.path.resolve()
        self.index = Index(run)
        self.fresh = Freshness(self.index)
        self.whole = Whole(self.index)
        self._kept: dict[str, tuple[Any, Any]] = {}

    def is_there(self) -> bool:
        """Whether the run still lies where it did; a link may lead to another one by now."""
        return (self.run.path / "run.json").is_file() and self.run.path.resolve() == self.lies_at

    def unless_changed(self, what: str, files: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` gives, made again only when one of the files has changed."""
        now = (self.index.generation, *(stamp(self.run.path / name) for name in files))
        if what not in self._kept or self._kept[what][0] != now:
            self._kept[what] = (now, make())
        value: T = self._kept[what][1]
        return value


class Shelf:
    """The runs in a folder."""

    def __init__(self, folder: Path, defaults: Callable[[], Mapping[str, Any]] = dict) -> None:
        list_runs(folder)
        self.folder = folder
        self.defaults = defaults
        self._open: dict[str, OpenRun] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[tuple[str, Run]]:
        """Every run with its name in the folder, which may be a link's; newest first."""
        found = list_runs(self.folder)
        is_itself_one = [run.path for run in found] == [self.folder]
        return [(run.path.resolve().name if is_itself_one else run.path.name, run) for run in found]

    def open(self, name: str) -> OpenRun:
        """The run of that name, by comparing with the names that exist: a name never becomes a path."""
        with self._lock:
            self._close_unused()
            known = self._open.get(name)
            if known is None or not known.is_there():
                known = self._open[name] = self._opened(name)
        known.fresh.look()
        return known

    def close(self) -> None:
        """Close every run."""
        with self._lock:
            for opened in self._open.values():
                opened.index.close()
            self._open.clear()

    def _opened(self, name: str) -> OpenRun:
        before = self._open.pop(name, None)
        if before is not None:
            before.index.close()
        for found, run in self.runs():
            if name in (found, _as_written(found)):
                return OpenRun(name, run)
        raise RunError(f"There is no run {name!r} in {self.folder}.")

    def _close_unused(self) -> None:
        old = [name for name, opened in self._open.items() if time.monotonic() - opened.fresh.looked_at > KEPT_S]
        for name in old:
            self._open.pop(name).index.close()


def _as_written(name: str) -> str:
    """As an address can hold it: bytes of a folder's name that are no character become the sign for that."""
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else letter for letter in name)


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None while there is none."""
    with contextlib.suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None

