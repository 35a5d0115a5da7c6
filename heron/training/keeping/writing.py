"""A folder that is either whole or not there, whatever ends the process or the machine while it is written.

It is written under another name, a manifest with the sizes and the SHA-256 of all files comes last, every file is put to the disk, and the
folder is renamed into its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from heron.run import records

MANIFEST = "MANIFEST.json"
LEFTOVERS = (".step-*.partial", ".step-*.gone")


def write_whole(
    final: Path, fill: Callable[[Path], None], *, sealed: bool = True, before_it_counts: Callable[[], None] = lambda: None
) -> None:
    """Have `fill` write into a folder that becomes `final`, on the disk. If it raises, nothing is left of it.

    Args:
        final: the folder; one that is there is replaced.
        fill: is given a folder that is empty.
        sealed: with a manifest.
        before_it_counts: called when all is written and nothing is in its place yet.
    """
    partial = final.parent / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        if sealed:
            (partial / MANIFEST).write_text(_manifest(partial))
        _sync_all(partial)
        before_it_counts()
        if final.exists():
            remove(final)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(final.parent)


def _manifest(folder: Path) -> str:
    """Sizes and SHA-256 of all files in it."""
    files = sorted(files_of(folder))
    return json.dumps({
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }, indent=1)


def _sync_all(folder: Path) -> None:
    """Every file in it is on the disk, then every list of names, its own the last."""
    for path in files_of(folder):
        sync(path)
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        sync(path)
    sync(folder)


def remove(folder: Path) -> None:
    """Take a folder away: at once under its name, then file by file, so that half of it is never taken for a damaged checkpoint."""
    gone = folder.parent / f".{folder.name}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Take away what a killed process had begun to write, or to remove."""
    for path in leftovers(folder):
        shutil.rmtree(path, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """What a killed process had begun to write, or to remove."""
    return sorted(path for pattern in LEFTOVERS for path in folder.glob(pattern))


def point(pointer: Path, target: str) -> None:
    """Have a small file say a name."""
    records.replace(pointer, f"{target}\n".encode())
    sync(pointer.parent)


def pointed_at(pointer: Path) -> str | None:
    """The name that it says."""
    return pointer.read_text().strip() if pointer.is_file() else None


def files_of(folder: Path) -> Iterator[Path]:
    """All files in a folder and in those inside it."""
    return (path for path in folder.rglob("*") if path.is_file())


def size_of(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in files_of(folder))


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
