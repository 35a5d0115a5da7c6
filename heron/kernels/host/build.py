"""The C files of this folder as one library: compiled where it runs, once, for the processor that it runs on.

The one hard idea: there is no binary to ship. A C compiler takes two seconds to make code for exactly this processor, and the result lies
in the user's cache under a name that holds all it depends on: sources, flags, compiler, processor. Without a compiler there is no
library, `reason` says why, and callers take their plain torch way. The threads are torch's own: the symbols of its OpenMP are already
in the process, so that `torch.set_num_threads` holds here too.

What it leaves out: Windows.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: F401 - brings the OpenMP that the library is loaded against

from heron.folders import cache_folder

SOURCES = Path(__file__).parent
COMPILERS = ("gcc", "clang", "cc")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi")
"""No `-ffast-math`: NaN and infinities are told apart."""
PATIENCE_S = 120
"""For one compilation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The library, or why there is none."""

    code: ctypes.CDLL | None = None
    """All functions of the C files."""
    reason: str = ""
    """Why there is none; empty if there is one."""
    is_parallel: bool = False
    """Whether it uses torch's threads."""

    @property
    def verdict(self) -> str:
        """One line for a person."""
        if self.code is None:
            return f"none, torch does all of it: {self.reason}"
        return "there, on torch's threads" if self.is_parallel else "there, on one thread (the compiler knows no OpenMP)"


@functools.cache
def built() -> Built:
    """The library of this process: loaded from the cache, or compiled first. Asked for the first time it may take a few seconds."""
    compilers = list(filter(None, map(shutil.which, COMPILERS)))
    reason = "there is no C compiler (gcc or clang) on this machine"
    for compiler, flags in itertools.product(compilers, _flag_sets()):
        path = cache_folder() / "host" / f"host-{_fingerprint(compiler, flags)}.so"
        library, _ = _loaded(path)
        if library is None:  # not there, or damaged
            reason = _compile(compiler, flags, path)
            library, error = _loaded(path)
            reason = reason or f"what {compiler} made cannot be loaded: {error}"
        if library is not None:
            return Built(code=library, is_parallel="-fopenmp" in flags)
    return Built(reason=reason)


def _loaded(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library of a file, or what is wrong with it."""
    try:
        return ctypes.CDLL(str(path)), ""
    except OSError as error:  # boundary: a symbol of OpenMP that is not there, a file that is damaged, a folder that is closed
        return None, str(error)


def _flag_sets() -> list[tuple[str, ...]]:
    """Flags to try, best first."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    loose = ("-undefined", "dynamic_lookup") if platform.system() == "Darwin" else ()
    return [(*FLAGS, *loose, native, "-fopenmp"), (*FLAGS, *loose, native), (*FLAGS, *loose)]


def _compile(compiler: str, flags: tuple[str, ...], path: Path) -> str:
    """Write the library; what went wrong, or nothing. OpenMP's own library is not linked: torch has brought one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            for command in _commands(compiler, flags, path.name):
                ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
                if ended.returncode:
                    return f"{compiler} failed: {ended.stderr.strip()[-500:]}"
            with open(Path(folder) / path.name, "rb") as made:
                os.fsync(made.fileno())  # a name in the cache stands for a whole file
            os.replace(Path(folder) / path.name, path)
    except (OSError, subprocess.TimeoutExpired) as error:  # boundary: whatever is called gcc on this machine, and a cache that is read-only
        return f"no library was made by {compiler} in {path.parent}: {error}"
    return ""


def _commands(compiler: str, flags: tuple[str, ...], name: str) -> tuple[list[str], list[str]]:
    """To compile and to link in the folder where they run."""
    sources = sorted(SOURCES.glob("*.c"))
    compile_only = [flag for flag in flags if flag != "-shared"]
    link_only = [flag for flag in flags if flag != "-fopenmp"]
    return (
        [compiler, *compile_only, "-c", *map(str, sources)],
        [compiler, *link_only, "-o", name, *(f"{source.stem}.o" for source in sources), "-lm"],
    )


def _fingerprint(compiler: str, flags: tuple[str, ...]) -> str:
    """Of everything that the library depends on."""
    digest = hashlib.sha256(" ".join((compiler, *flags, _compiler_version(compiler), _processor())).encode())
    for source in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")]):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:24]


def _compiler_version(compiler: str) -> str:
    path = Path(compiler).resolve()
    return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _processor() -> str:
    """What `native` means here."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    kinds = sorted({line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")})
    return " ".join((platform.system(), platform.machine(), platform.processor(), *kinds))
