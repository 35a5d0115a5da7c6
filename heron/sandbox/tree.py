"""A process and everything that it started: who they are, what memory they hold, and their end.

The hard idea: a process cannot hide from the one that adopts orphans. The supervisor is such a subreaper, so every descendant stays
below it however often it forks and whatever session it opens, and killing in rounds ends: a process that has been sent the signal
cannot complete a fork, so each round leaves only what was born during it. Needs /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

PAGE = os.sysconf("SC_PAGE_SIZE")


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
    """Memory that they hold, pages that several share counted for each."""
    return sum(_resident_pages(pid) for pid in pids) * PAGE


def tasks_of_user(uid: int) -> int:
    """Processes and threads of a user, as the kernel counts them against a limit."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = dict(line.split(":", 1) for line in _read(f"/proc/{name}/status").splitlines() if ":" in line)
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


def _resident_pages(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) if fields else 0


def _read(path: str) -> str:
    """A file of /proc; nothing where its process has just ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
