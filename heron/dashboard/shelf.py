"""The runs of a folder, by name, each opened when it is first asked for.

The one hard idea: a page that asks every second must be cheap. Of a run, what was made from a file is kept until that file changes; its
numbers and rollouts come from an index, which reads what is new, a little at a time, while somebody looks. A run that nobody has looked
at for a while is closed, so that many runs cost no more than a few.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from heron.errors import RunError
from heron.run import Run, list_runs
from heron.run.index import Index, Progress

AT_ONCE_S = 0.5
"""Seconds that an index may read before whoever asked is answered."""
FIRST_S = 0.4
"""The same for a run that has just been opened: the first screen wants numbers."""
NOT_AGAIN_S = 0.7
"""Seconds for which an index counts as fresh."""
KEPT_S = 120.0
"""Seconds after which a run that nobody looks at is closed."""

T = TypeVar("T")


class OpenRun:
    """One run that is being looked at."""

    def __init__(self, name: str, run: Run, index: Index) -> None:
        self.name = name
        self.run = run
        self.index = index
        self.progress: Progress | None = None
        self.used = time.monotonic()
        self._read = 0.0
        self._reading = threading.Lock()
        self._kept: dict[str, tuple[Any, Any]] = {}

    def freshen(self) -> None:
        """Let the index read on, unless it has just done so or is at it; only the first time one waits for another who reads."""
        self.used = time.monotonic()
        never = self.progress is None
        if not never and self.used - self._read < NOT_AGAIN_S:
            return
        if not self._reading.acquire(blocking=never):
            return
        try:
            if never and self.progress is not None:
                return
            self.progress = self.index.refresh(FIRST_S if never else AT_ONCE_S)
            self._read = time.monotonic()
        finally:
            self._reading.release()

    def unless_changed(self, what: str, files: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` gives, made again only when one of the files has changed."""
        now = (self.index.generation, *(stamp(self.run.path / name) for name in files))
        if what not in self._kept or self._kept[what][0] != now:
            self._kept[what] = (now, make())
        value: T = self._kept[what][1]
        return value


class Shelf:
    """The runs in a folder."""

    def __init__(self, folder: Path) -> None:
        list_runs(folder)
        self.folder = folder
        self._open: dict[str, OpenRun] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[tuple[str, Run]]:
        """Every run with its name, newest first."""
        return [(run.path.resolve().name, run) for run in list_runs(self.folder)]

    def open(self, name: str) -> OpenRun:
        """The run of that name, by comparing with the names that exist: a name never becomes a path."""
        with self._lock:
            self._close_unused()
            known = self._open.get(name)
            if known is None or not (known.run.path / "run.json").is_file():
                known = self._open[name] = self._opened(name)
        known.freshen()
        return known

    def close(self) -> None:
        """Close every run."""
        with self._lock:
            for opened in self._open.values():
                opened.index.close()
            self._open.clear()

    def _opened(self, name: str) -> OpenRun:
        self._open.pop(name, None)
        for found, run in self.runs():
            if found == name:
                return OpenRun(name, run, Index(run))
        raise RunError(f"There is no run {name!r} in {self.folder}.")

    def _close_unused(self) -> None:
        old = [name for name, opened in self._open.items() if time.monotonic() - opened.used > KEPT_S]
        for name in old:
            self._open.pop(name).index.close()


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None while there is none."""
    with contextlib.suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None

