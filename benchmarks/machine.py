"""What a measurement was made on: without it a table of seconds means nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_machine(threads: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """One line: processor, cores, threads used, torch and Python."""
    return (
        f"{cpu_model(cpuinfo)}, {os.cpu_count()} cores, {threads} thread{'' if threads == 1 else 's'}, "
        f"torch {installed('torch')}, Python {platform.python_version()}"
    )


def cpu_model(cpuinfo: Path) -> str:
    """The processor's name where Linux tells it, else the architecture."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
