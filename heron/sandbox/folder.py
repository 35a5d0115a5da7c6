"""The folder of one program: made, measured while it runs, and removed whatever it holds.

The hard idea: its content is hostile. Nothing in it is opened or followed; names are only listed. Folders nested ten thousand deep
outgrow the longest path and any recursion, so removing moves each folder of the second level up to the first until there are none.
"""

from __future__ import annotations

import itertools
import os
import tempfile

MOST_ENTRIES = 1000
"""Files and folders that a program may make."""
DEEPEST = 20
"""Folders in folders."""
PREFIX = "heron-sandbox-"


def make(scratch: str, uid: int | None) -> str:
    """A new folder in `scratch` whose name says which process cleans it up."""
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=scratch)
    if uid is not None:
        os.chown(folder, uid, uid)
    return folder


def usage(folder: str) -> tuple[int, int]:
    """Entries and bytes, counted until there are too many. What cannot be listed, or is nested deeply, counts as too many."""
    entries = size = 0
    unseen = [(folder, 0)]
    while unseen and entries <= MOST_ENTRIES:
        path, depth = unseen.pop()
        try:
            found = _listed(path) if depth <= DEEPEST else None
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError:
            found = None
        if found is None:
            return MOST_ENTRIES + 1, size
        entries += len(found)
        size += sum(_size(entry) for entry in found)
        unseen += [(entry.path, depth + 1) for entry in found if entry.is_dir(follow_symlinks=False)]
    return entries, size


def remove(folder: str) -> None:
    """Deletes it and all in it, without recursion."""
    while folders := _empty_of_files(folder):
        for path in folders:
            for inner in _empty_of_files(path):
                os.chmod(inner, 0o700)  # a folder that is moved is written to
                os.rename(inner, os.path.join(folder, os.urandom(16).hex()))
            os.rmdir(path)
    os.rmdir(folder)


def remove_of(scratch: str, pid: int) -> None:
    """What a supervisor left that did not live to remove it."""
    with os.scandir(scratch) as listing:
        left = [entry.path for entry in listing if entry.name.startswith(f"{PREFIX}{pid}-")]
    for path in left:
        remove(path)


def _empty_of_files(folder: str) -> list[str]:
    """Deletes the files of a folder; the folders that remain in it."""
    os.chmod(folder, 0o700)
    folders = []
    with os.scandir(folder) as listing:
        for entry in list(listing):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.unlink(entry.path)
    return folders


def _listed(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as listing:
        return list(itertools.islice(listing, MOST_ENTRIES + 1))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:  # removed meanwhile
        return 0
