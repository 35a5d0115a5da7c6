"""Where runs and models are kept: the disk, Heron's cache, the cache of Hugging Face.

The one hard idea: what cannot be written to is found by asking the system and not by writing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from heron.folders import cache_folder
from heron.run.machine.environment import hub_folder
from heron.run.machine.fact import Fact

SCARCE = 5 * 2**30
"""Free bytes below which a checkpoint of a small model may not find room."""
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p")
"""File systems that lie elsewhere."""


def storage_facts(folder: Path) -> list[Fact]:
    """Room and caches."""
    return [_disk(folder), _cache(), _hub()]


def _disk(folder: Path) -> Fact:
    place = _existing(folder)
    usage, kind = shutil.disk_usage(place), _file_system(place)
    words = f"{_gib(usage.free)} of {_gib(usage.total)} GiB free at {place}" + (f" ({kind})" if kind else "")
    data = {"path": str(place), "free_bytes": usage.free, "total_bytes": usage.total, "file_system": kind}
    return _fact("disk", words, data, _advice(place, usage.free, kind))


def _advice(place: Path, free: int, kind: str) -> str:
    if not os.access(place, os.W_OK):
        return "Runs cannot be written there: change to another folder, or name one with --run-dir."
    if free < SCARCE:
        return "Make room: each checkpoint takes the weights and the optimizer's memory of them."
    return "It lies on another machine: keep runs on a disk of this one if the record takes long (time/record)." if kind in REMOTE else ""


def _cache() -> Fact:
    folder = cache_folder()
    is_open = os.access(_existing(folder), os.W_OK)
    words = f"{folder}, " + (_holds(folder.rglob("*")) if folder.is_dir() else "not made yet")
    advice = "" if is_open else "It cannot be written: let XDG_CACHE_HOME name a folder that can."
    return _fact("Heron's cache", words, {"path": str(folder), "is_writable": is_open}, advice)


def _hub() -> Fact:
    folder = hub_folder()
    kept = {kind: len(list(folder.glob(f"{kind}--*"))) for kind in ("models", "datasets")}
    words = f"{folder}, " + (f"models: {kept['models']}, data sets: {kept['datasets']}" if folder.is_dir() else "not made yet")
    return _fact("Hugging Face cache", words, {"path": str(folder), **kept})


def _holds(files: Iterable[Path]) -> str:
    return f"{sum(file.lstat().st_size for file in files if file.is_file()) / 2**20:,.0f} MiB"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())


def _file_system(place: Path) -> str:
    """The kind of file system, such as `ext4`; empty where the system does not say."""
    table = Path("/proc/mounts")
    rows = [line.split() for line in table.read_text(errors="replace").splitlines()] if table.exists() else []
    above = [(Path(row[1].replace("\\040", " ")), row[2]) for row in rows if len(row) > 2]
    around = [(path, kind) for path, kind in above if place.is_relative_to(path)]
    return max(around, key=lambda pair: len(pair[0].parts), default=(place, ""))[1]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


def _fact(name: str, words: str, data: object = None, advice: str = "") -> Fact:
    return Fact(group="storage", name=name, words=words, data=data, advice=advice)
