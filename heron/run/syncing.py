"""Written lines to the disk, from a thread of its own: at most every two seconds, and never while the trainer waits.

The one hard idea: a killed process loses nothing that it wrote, a power cut loses what the system had not put on the disk yet. To wait
for the disk after each line would slow training; so the lines of at most the last two seconds are left to chance.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from heron.errors import RunError

INTERVAL = 2.0
"""Seconds."""


class Syncer:
    """Syncs the files that were named to it. `close` syncs what is left and ends the thread."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._waiting: set[Path] = set()
        self._changed = threading.Condition()
        self._is_closing = False
        self._syncing = threading.Lock()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def wrote(self, path: Path) -> None:
        """This file has new content. Raises RunError if an earlier sync failed: the disk does not keep what it was given."""
        with self._changed:
            if self._error is not None:
                raise RunError(f"The disk does not keep the record: {self._error}. Is it full, or gone?") from self._error
            self._waiting.add(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heron-sync", daemon=True)
                self._thread.start()
            self._changed.notify()

    def flush(self) -> None:
        """Everything that was named before is on the disk when this returns; from any thread."""
        with self._syncing:
            self._sync_waiting()

    def close(self) -> None:
        """Sync what is left."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
            try:
                self.flush()
            except OSError as error:  # boundary: told to the trainer by the next `wrote`
                self._error = error
            with self._changed:
                if not self._changed.wait_for(lambda: self._is_closing, self._interval):
                    continue
                if not self._waiting:
                    return

    def _sync_waiting(self) -> None:
        with self._changed:
            paths, self._waiting = self._waiting, set()
        for path in paths:
            _sync(path)


def _sync(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # taken back in the meantime
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
