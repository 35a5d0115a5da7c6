"""Runs a Python program in a process of its own, with a deadline and limits, and returns what it printed.

The hard idea: this is a fence against *accidents* (endless loops, exploding memory, floods of output), not against
attackers: the program runs as you. `limits()` says so in words that are meant to be shown to whoever turns it on. The
second idea: a program cannot be believed about itself. It can exit with 0 or print "passed" without solving anything,
so give it only code and inputs, and compare its output with the expected one out here.

Output goes to files that are already unlinked, so nothing can block on a full pipe and nothing floods this process's
memory. Left out: namespaces, system call filters, containers. Needs a POSIX system.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from heron.errors import SandboxError

FILE_BYTES = 1 << 20
"""Largest file that a program may write, its standard output and error included."""
LEAST_MEMORY_MB = 64
"""An interpreter alone needs about 30."""
LAUNCHER = Path(__file__).with_name("launcher.py")


class Status(enum.StrEnum):
    """How a program ended."""

    FINISHED = "finished"
    """It exited with code 0, which doesn't mean that it did what was asked."""
    FAILED = "failed"
    """It raised, exited with another code, was killed by a signal, or ran out of memory; see `stderr`."""
    TIMEOUT = "timeout"
    """It was killed at the deadline, or used up its processor time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a program."""

    status: Status
    """How it ended."""
    stdout: str
    """What it printed, cut at 1 MiB; bytes that are no UTF-8 are shown as �."""
    stderr: str
    """What it printed on standard error, cut alike; a traceback, where it raised."""
    seconds: float
    """Wall-clock time, the start of the interpreter included."""


def run_python(program: str, *, stdin: str = "", timeout: float = 5.0, memory_mb: int = 512) -> Outcome:
    """Runs a program and waits for it, at most `timeout` seconds; whatever is left of its process group is killed.

    Raises `SandboxError` if the limits cannot be set here; that is never an outcome of the program.
    """
    _check(timeout, memory_mb)
    with (
        tempfile.TemporaryDirectory(prefix="heron-", ignore_cleanup_errors=True) as folder,
        _file(stdin) as given,
        _file() as stdout,
        _file() as stderr,
    ):
        file = Path(folder, "program.py")
        file.write_bytes(_encoded(program))
        started = time.monotonic()
        code = _run(file, (given, stdout, stderr), timeout, memory_mb)
        seconds = time.monotonic() - started
        return Outcome(status=_status(code), stdout=_text(stdout), stderr=_text(stderr), seconds=seconds)


def limits() -> str:
    """What `run_python` stops and what it does not, for people."""
    return (
        "Stopped: endless loops and sleeping (deadline and processor time), too much memory in one process, files and "
        "output over 1 MiB, core dumps, more than 64 open files, reading this process's environment variables through "
        "its own, new processes (for users other than root), and children that stay in the program's process group.\n"
        "NOT stopped: reading and writing every file that you can, many small files, the network, reading secrets of "
        "your other processes, signalling or tracing them (this one included), children that leave the process group, "
        "and, for root, any number of processes, each with its own memory.\n"
        "So run it as a user who owns nothing, in a container or virtual machine without secrets, when programs may be "
        "hostile; a model that is trained against a sandbox does look for its holes."
    )


def _check(timeout: float, memory_mb: int) -> None:
    if os.name != "posix":
        raise SandboxError(f"Programs are fenced in by POSIX resource limits, but this is {sys.platform}. Use Linux.")
    if not 0 < timeout < math.inf:
        raise SandboxError(f"timeout must be a number of seconds above 0, but it is {timeout!r}. 5 is the default.")
    if memory_mb < LEAST_MEMORY_MB:
        raise SandboxError(f"memory_mb must be at least {LEAST_MEMORY_MB}, but it is {memory_mb!r}. 512 is common.")


def _run(file: Path, streams: tuple[IO[bytes], IO[bytes], IO[bytes]], timeout: float, memory_mb: int) -> int | None:
    """The exit code, negative for a signal; None if the deadline came first."""
    ready, reported = os.pipe()
    with open(ready, "rb") as ready_pipe:
        limits = (reported, math.ceil(timeout) + 1, memory_mb << 20, FILE_BYTES)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), *map(str, limits), str(file)],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                cwd=file.parent,
                env=_environment(file.parent),
                pass_fds=(reported,),
                start_new_session=True,
            )
        finally:
            os.close(reported)
        code = _wait(process, timeout)
        if ready_pipe.read() != b"1":
            problem = _text(streams[2]).strip()[-500:] or f"it was not ready after {timeout:g} seconds; allow more"
            raise SandboxError(f"The limits of a program could not be set here, so it was not run: {problem}")
        return code


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: no tokens, no paths. One thread, since more count as processes."""
    home = str(folder)
    return {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Waits, then kills the group before the leader is reaped: until then no stranger can have its number."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while (ended := _has_ended(process.pid)) is False and time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2 * pause, 0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left (macOS: only the dead leader)
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    return code if ended else None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _status(code: int | None) -> Status:
    if code is None or code == -signal.SIGXCPU:
        return Status.TIMEOUT
    return Status.FINISHED if code == 0 else Status.FAILED


def _file(text: str = "") -> IO[bytes]:
    """A file without a name, ready to be read from its start."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's with statement closes it)
    file.write(_encoded(text))
    file.seek(0)
    return file


def _encoded(text: str) -> bytes:
    """Lone surrogates, which a model can write, become bytes that the child refuses: its failure, not ours."""
    return text.encode("utf-8", errors="surrogatepass")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(FILE_BYTES).decode("utf-8", errors="replace")
