"""bubblewrap: own mounts, processes, network and users for each program, with the filter of system calls, and limits set inside.

The hard idea: limits on processes are void for root, also for root in a namespace of its own. So for root no user namespace is made:
`bwrap` keeps the two rights that changing the user takes, and the program's process gives them up by becoming a user who owns nothing. The
root of its file system is empty and read-only; folders on the way to an interpreter in a closed home folder are made passable.
`bwrap` is called as a program and is the system's; nothing of it is in here.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from heron.sandbox import interpreter
from heron.sandbox.backends.backend import DELETED, READABLE, Backend, Walls, missing_tables
from heron.sandbox.limits import Limits

WORK = "/work"
"""The program's folder, within."""
DEVICES = ("/dev/null", "/dev/urandom")
INSTALL = "install it (apt install bubblewrap, or dnf install bubblewrap)"


def command(program: str, uid: int | None, disables_userns: bool) -> list[str]:
    """The whole command line; `@folder`, `@order` and `@filter` are filled in by the supervisor."""
    return [
        program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent",
        "--new-session", "--cap-drop", "ALL", "--seccomp", "@filter",
        *(["--unshare-user", *(["--disable-userns"] if disables_userns else [])] if uid is None else []),
        *(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if uid is not None else []),
        *_mounts(), "--bind", "@folder", WORK, "--remount-ro", "/", "--chdir", "/",
        "--clearenv", *_environment(), "--", *interpreter.command_within("@order"),
    ]


def _mounts() -> list[str]:
    """Links as links, the rest read-only; every folder above passable for everybody."""
    words: list[str] = []
    made: set[str] = set()
    for path in interpreter.readable_paths():
        if os.path.islink(path) and os.path.dirname(path) == "/":
            words += ["--symlink", os.readlink(path), path]
            continue
        for parent in reversed(Path(path).parents):
            if str(parent) != "/" and str(parent) not in made and not _is_within(str(parent), made_of=words):
                made.add(str(parent))
                words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--ro-bind", path, path]
    for path in DEVICES:
        words += ["--dev-bind", path, path]
    return words


def _is_within(path: str, made_of: list[str]) -> bool:
    """Whether a folder already comes with one that is bound."""
    bound = [made_of[position + 2] for position, word in enumerate(made_of) if word == "--ro-bind"]
    return any(path == each or path.startswith(each + "/") for each in bound)


def _environment() -> list[str]:
    environment = {**interpreter.ENVIRONMENT, "HOME": WORK, "TMPDIR": WORK}
    return [word for name, value in environment.items() for word in ("--setenv", name, value)]


@functools.cache
def _program() -> tuple[str | None, bool]:
    """Where it is, and whether it can forbid further user namespaces by itself."""
    if (found := shutil.which("bwrap")) is None:
        return None, False
    told = subprocess.run([found, "--help"], capture_output=True, text=True, timeout=30, check=False)
    return found, "--disable-userns" in told.stdout + told.stderr


def _missing() -> str | None:
    if (problem := missing_tables()) is not None:
        return problem
    return f"the program bwrap is not installed: {INSTALL}" if _program()[0] is None else None


def _walls(limits: Limits, uid: int | None) -> Walls:
    program, disables_userns = _program()
    assert program is not None
    return Walls(command=command(program, uid, disables_userns), folder=WORK, processes=1 if uid is None else 0, visible=2)


BUBBLEWRAP = Backend(
    name="bubblewrap", missing=_missing, walls=_walls,
    holds=(
        "files outside the program's folder and the system's libraries: not there",
        "other processes: not visible, no signals, no tracing", "the network: none",
        "new namespaces, mounts, io_uring, bpf, keys, shared memory: refused by the filter",
        "processes, memory, files, output, time: capped; nothing survives",
    ),
    leaves=(READABLE, DELETED, "bugs of the kernel", "what one can learn from timing on a shared processor"),
)
