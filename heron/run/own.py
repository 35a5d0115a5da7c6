"""Which files of a run directory are its own, so that a copied run cannot make a reader open anything else.

The one hard idea: a run may come from somebody else. A link in it may lead to any file of this machine, whose lines would then be shown
as if they were the run's, and a named pipe keeps whoever opens it waiting for ever. So what is read is a regular file that lies in the
directory, behind no link that leads out of it. The directory itself may be a link.

Left out: somebody who puts a link in a file's place in the moment between the look and the reading.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from heron.errors import RunError


def own(directory: Path, name: str) -> Path:
    """Where the file of that name lies, such as `rollouts/step-000010.jsonl`; RunError if what lies there is not the run's own to read."""
    path = directory / name
    if is_own(directory, path):
        return path
    raise RunError(f"{path} is not a file of the run itself but a link that leads out of it, or no file at all. It is not opened.")


def is_own(directory: Path, path: Path) -> bool:
    """True of a regular file of the run, and where nothing is."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and is_inside(directory, path)
    except OSError:
        return not os.path.islink(path)


def is_inside(directory: Path, path: Path) -> bool:
    """True unless the path, which is in the directory or one folder below it, leads out of it through a link."""
    if not (os.path.islink(path) or (path.parent != directory and os.path.islink(path.parent))):
        return True
    root = os.path.realpath(directory)
    return os.path.commonpath((root, os.path.realpath(path))) == root
