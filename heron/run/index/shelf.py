"""The folder of the indexes: one file for each run that was looked at, and none for runs that are gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from pathlib import Path

from heron.run.index.store import Store, Writing


def open_store(folder: Path, run: Path, *, has_search: bool | None = None) -> Store:
    """The index of the run at that path. When a new one is made, those of runs that are no longer there make room for it."""
    path = folder / file_name(run)
    is_new = not path.exists()
    store = Store(path, has_search=has_search)
    if is_new:
        sweep(folder, keep=path)
    return store


def note_path(writing: Writing, run: Path) -> None:
    """Whose index it is, so that it can be swept when the run is gone."""
    writing.note("path", os.fsencode(run))


def file_name(run: Path) -> str:
    """Of the run's index: told apart by its whole path, recognised by its last part."""
    digest = hashlib.blake2b(str(run).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', run.name)[:80]}-{digest}.sqlite"


def sweep(folder: Path, *, keep: Path) -> None:
    """Remove the indexes of runs that are gone. One that cannot be read is left alone: it may be in use, or not ours."""
    for path in folder.glob("*-*.sqlite"):
        run = _run_of(path) if path != keep else None
        if run is not None and not (run / "run.json").exists():
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)


def _run_of(path: Path) -> Path | None:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        row = connection.execute("SELECT value FROM state WHERE key = 'path'").fetchone()
        return Path(os.fsdecode(row[0])) if row else None
    return None
