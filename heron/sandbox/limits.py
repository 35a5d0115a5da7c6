"""What a program may use, and what became of it: plain values, checked before anything is started."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from heron.errors import SandboxError

LEAST_MEMORY_MB = 64
"""An interpreter alone needs about 30."""
LEAST_BYTES = 1024
"""Of output and of files: less cannot hold a traceback."""


class Status(enum.StrEnum):
    """How a program ended."""

    FINISHED = "finished"
    """It exited with code 0, which doesn't mean that it did what was asked."""
    FAILED = "failed"
    """It raised, exited with another code, was killed by a signal, or ran out of memory by itself; see `stderr`."""
    TIMEOUT = "timeout"
    """It was killed at the deadline, or used up its processor time."""
    LIMIT = "limit"
    """It was killed since it used more than it may of something else; `reason` says of what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program and everything that it starts may use, together."""

    seconds: float = 5.0
    """Wall-clock time from the moment that the program starts; also processor time of each process, rounded up, plus one."""
    memory_mb: int = 512
    """Address space of each process, and memory, resident or swapped out, of all of them together."""
    processes: int = 8
    """Processes and threads, the first included."""
    output_bytes: int = 1 << 20
    """Standard output, standard error, and the private result: each."""
    file_bytes: int = 1 << 20
    """One file, and all files of its folder together. The folder is deleted afterwards."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise SandboxError(f"seconds must be a number above 0, but it is {self.seconds!r}. 5 is the default.")
        for name, least in (
            ("memory_mb", LEAST_MEMORY_MB), ("processes", 1), ("output_bytes", LEAST_BYTES), ("file_bytes", LEAST_BYTES),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SandboxError(f"{name} must be a whole number of at least {least}, but it is {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a program. Everything in it except `status`, `seconds` and `backend` was said by the program: do not believe it."""

    status: Status
    """How it ended."""
    reason: str
    """In words: the exit code, the signal, the limit; empty for a program that finished."""
    stdout: str
    """What it printed, up to `output_bytes`; bytes that are no UTF-8 are shown as �."""
    stderr: str
    """What it printed on standard error, alike; a traceback, where it raised."""
    seconds: float
    """Wall-clock time of the program, without the start of its interpreter."""
    backend: str
    """What held it."""
    report: bytes = b""
    """What came through the private descriptor, where results were asked for; `grading` reads it."""
