"""Landlock and the filter of system calls: no privileges and no program needed, also inside most containers.

The hard idea: what Landlock does not see, the filter refuses (UDP, new namespaces, modes and owners of files), and what neither holds
back, orphans, the supervisor adopts. There is no namespace of processes, so the kernel counts the program's processes with all others of
its user; root becomes a user number of its own for each program, for anybody else the supervisor counts.
"""

from __future__ import annotations

from heron.sandbox import interpreter, landlock
from heron.sandbox.backends.backend import DELETED, READABLE, Backend, Walls, missing_tables
from heron.sandbox.backends.bubblewrap import DEVICES
from heron.sandbox.limits import Limits


def _missing() -> str | None:
    if (problem := missing_tables()) is not None:
        return problem
    found = landlock.version()
    if found == 0:
        return "the kernel has no Landlock, or it is switched off or hidden: use Linux 6.12 or newer, with landlock among its lsm= options"
    if found < landlock.LEAST_VERSION:
        return f"the kernel's Landlock is version {found} and confines no signals: use Linux 6.12 (has {landlock.LEAST_VERSION}) or newer"
    return None


def _walls(limits: Limits, uid: int | None) -> Walls:
    readable = interpreter.readable_paths()
    return Walls(landlock={"readable": readable, "devices": DEVICES}, count_user=uid is None)


LANDLOCK = Backend(
    name="landlock", missing=_missing, walls=_walls,
    holds=(
        "files outside the program's folder: cannot be opened, made, changed or listed (the system's libraries can be read)",
        "other processes: no signals, no tracing, /proc closed", "the network: none",
        "new namespaces, mounts, io_uring, bpf, keys, shared memory, modes and times of files: refused by the filter",
        "processes, memory, files, output, time: capped; nothing survives",
    ),
    leaves=(
        READABLE, DELETED, "whether a file outside exists, its size and times (stat)", "process numbers of others", "bugs of the kernel",
        "what one can learn from timing on a shared processor",
    ),
)
