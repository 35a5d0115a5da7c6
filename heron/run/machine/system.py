"""The machine itself: system, Python, cores, memory."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from heron.run.machine.fact import Fact
from heron.version import VERSION

BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "svebf16")
"""Flags in /proc/cpuinfo of processors that compute in bfloat16."""


def system_facts() -> list[Fact]:
    """Who we are, and on what."""
    cores, memory, speaks = _cores(), _memory(), _bfloat16()
    return [
        _fact("heron", VERSION, VERSION),
        _fact("system", f"{platform.system()} {platform.release()}, {platform.machine()}", platform.system()),
        _fact("python", f"{platform.python_version()} at {sys.executable}", platform.python_version()),
        _fact("cpu cores", f"{cores} of {os.cpu_count()} may be used" if cores != os.cpu_count() else str(cores), cores),
        _fact("memory", "unknown" if memory is None else f"{memory / 2**30:.1f} GiB", memory),
        _fact("CPU precision", f"float32, bfloat16 by {', '.join(speaks)}" if speaks else "float32; bfloat16 would be slow here", speaks),
    ]


def _fact(name: str, words: str, data: object) -> Fact:
    return Fact(group="system", name=name, words=words, data=data)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> int | None:
    known = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in known else None


def _bfloat16() -> list[str]:
    """Which instructions of the processor compute in bfloat16."""
    file = Path("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", file.read_text(errors="replace"), re.MULTILINE) if file.exists() else None
    return [flag for flag in BFLOAT16 if found and flag in found[1].split()]
