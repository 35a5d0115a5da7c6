"""A process and everything that it started: who they are, what memory they hold, and their end.

The hard idea: a process cannot hide from the one that adopts orphans. The supervisor is such a subreaper, so every descendant stays
below it however often it forks and whatever session it opens, and killing in rounds ends: a process that has been sent the signal
cannot complete a fork, so each round leaves only what was born during it. Needs /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator, Sequence

HELD = ("VmRSS", "VmSwap", "HugetlbPages")
LONGEST_MAPS = 1 << 20
"""Of /proc/PID/maps, some ten thousand mappings; an interpreter has a hundred."""


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on, living or dead and not yet reaped."""
    found: list[int] = []
    unseen = [pid]
    while unseen:
        below = [child for child in children(unseen.pop()) if child not in found]
        found += below
        unseen += below
    return found


def children(pid: int) -> list[int]:
    """Those that it, or one of its threads, started or adopted."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def resident_bytes(pids: Sequence[int]) -> int:
    """Memory that they hold, swapped out or not, pages that several share counted for each."""
    return sum(int(fields[name].split()[0]) for fields in map(_status, pids) for name in HELD if name in fields) << 10


def mapped_deleted_files(pids: Sequence[int], uid: int | None) -> int | None:
    """Files without a name that they hold by mappings; None for too many mappings to tell. They are of this user, or of ours."""
    found = set()
    with contextlib.nullcontext() if uid is None else _looking_as(uid):
        for pid in pids:
            maps = _read(f"/proc/{pid}/maps", LONGEST_MAPS)
            if len(maps) == LONGEST_MAPS:
                return None
            found |= {tuple(line.split()[3:5]) for line in maps.splitlines() if line.endswith(" (deleted)")}
    return len(found)


def tasks_of_user(uid: int) -> int:
    """Processes and threads of a user, as the kernel counts them against a limit."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _status(int(name))
            if fields.get("Uid", "").split()[:1] == [str(uid)]:
                count += int(fields.get("Threads", "1"))
    return count


def kill(pid: int) -> None:
    """At once; one that has just ended is as good."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_below(pid: int, seconds: float = 5.0) -> bool:
    """Kills and reaps every descendant of this process; whether none is left."""
    until = time.monotonic() + seconds
    while alive := descendants(pid):
        for each in alive:
            kill(each)
        reap()
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    return True


def reap() -> dict[int, int]:
    """The dead children of this process, with their wait status."""
    dead = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            dead[ended[0]] = ended[1]
    return dead


@contextlib.contextmanager
def _looking_as(uid: int) -> Iterator[None]:
    """Without CAP_SYS_PTRACE, which containers withhold, root may not look into processes of others; their own user may."""
    libc = ctypes.CDLL(None)
    libc.setfsgid(uid)
    libc.setfsuid(uid)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":" in line)


def _read(path: str, most: int = -1) -> str:
    """A file of /proc, or its beginning; nothing where its process has just ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
