"""Runs in the process that becomes the program: gives up every right, one after the other, and says that all are gone.

The hard idea is the order. The user is changed first, since that needs a privilege and undoes the signal that comes when the parent
dies; limits are set after it, since they count per user; the filter of system calls comes last, since it forbids some of the rest.
A program that was to run is never run with one of them missing: any error here ends the process before the word "ready" is written.
An interpreter whose library the new user cannot reach (a home folder that is closed to others) is read through open folders. What is
imported here is paid by every program, so it is little.
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

REPORT, READY, FIRST_UNUSED = 3, 4, 5
"""Descriptors: the program's private result, and the word that all limits hold."""
OPEN_FILES = 64
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, SIGKILL = 1, 4, 38, 9


def give_up_rights(order: Mapping[str, Any]) -> None:
    """Everything in `order`, then the word "ready"."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(0o077)
    library = _open_library() if order["uid"] is not None else []
    ruleset = _prepare_landlock(order["landlock"])
    if order["uid"] is not None:
        become(order["uid"])
    os.chdir(order["folder"])  # whose owner we are only now
    lower_limits(order["limits"])
    if order["command"] is None:
        _close_doors(ruleset, order["seccomp"])
    _read_through(library)
    os.write(READY, b"1")
    os.close(READY)
    if order["calls"] is None:
        os.close(REPORT)


def become(uid: int) -> None:
    """An ordinary user who owns nothing, in no group but an own one, without a way back."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def lower_limits(limits: Mapping[str, int]) -> None:
    """Limits that cannot be raised again; a machine's own lower limit stays. A core file of one byte is none, also through a pipe."""
    for kind, value in (
        (resource.RLIMIT_CPU, limits["cpu"]), (resource.RLIMIT_AS, limits["memory"]), (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, OPEN_FILES), (resource.RLIMIT_NPROC, limits["processes"]), (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_MSGQUEUE, 0), (resource.RLIMIT_MEMLOCK, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _open_library() -> list[tuple[str, str]]:
    """Folder of the library, and a path to it that asks no folder above for permission."""
    opened = []
    for path in sys.path:
        if os.path.isdir(path):
            opened.append((path, f"/proc/self/fd/{os.open(path, os.O_PATH | os.O_DIRECTORY)}"))
    return opened


def _read_through(library: Sequence[tuple[str, str]]) -> None:
    """The open folders, where the library cannot be reached otherwise; they are closed where it can."""
    for path, opened in sorted(library, reverse=True):
        if os.access(path, os.R_OK | os.X_OK):
            os.close(int(opened.rsplit("/", 1)[1]))
            continue
        sys.path[:] = [opened if entry == path else entry for entry in sys.path]
        for module in list(sys.modules.values()):
            if isinstance(places := getattr(module, "__path__", None), list):
                places[:] = [opened + place[len(path):] if place.startswith(path + "/") else place for place in places]
    sys.path_importer_cache.clear()


def _prepare_landlock(walls: Mapping[str, Sequence[str]] | None) -> int | None:
    """The ruleset, while its folders can still be reached."""
    if walls is None:
        return None
    from heron.sandbox import landlock

    return landlock.prepare(walls["readable"], walls["devices"], os.getcwd())


def _close_doors(ruleset: int | None, filter_of_calls: str | None) -> None:
    """What a command does by itself, where there is one: dies with its parent, gains nothing, Landlock, the filter.

    Who has changed its user is hidden from that user, too, and the supervisor looks as that user.
    """
    from heron.sandbox import landlock, seccomp

    for option, value in ((PR_SET_PDEATHSIG, SIGKILL), (PR_SET_DUMPABLE, 1), (PR_SET_NO_NEW_PRIVS, 1)):
        seccomp.prctl(option, value)
    if ruleset is not None:
        landlock.enforce(ruleset)
    if filter_of_calls is not None:
        seccomp.install(bytes.fromhex(filter_of_calls))
