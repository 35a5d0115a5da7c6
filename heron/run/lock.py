"""Who writes a run right now: a lock that the operating system gives back when its holder dies, however it dies.

So one run never has two writers, and a reader can tell a run that is being written from one whose process was killed before
it could say so. Left out: network file systems without `flock`, and Windows.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from heron.errors import RunError
from heron.run.own import is_own

NAME = "writer.lock"


def take(directory: Path, *, patience: float = 1.0) -> IO[bytes]:
    """Become the run's writer until the returned file is closed. Waits a moment, since `is_held` takes the lock for an instant."""
    file = open(directory / NAME, "wb")  # noqa: SIM115 - the open file is the lock
    deadline = time.monotonic() + patience
    while not _try(file, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            file.close()
            raise RunError(f"{directory} is being written by another process. Wait for it or stop it; or choose another run directory.")
        time.sleep(0.02)
    return file


def is_held(directory: Path) -> bool:
    """True while some process, this one included, writes the run."""
    path = directory / NAME
    if not path.exists() or not is_own(directory, path):
        return False
    with open(path, "rb") as file:
        return not _try(file, fcntl.LOCK_SH)


def _try(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
