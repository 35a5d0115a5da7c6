"""What every backend says about itself.

The hard idea: a backend is data, not code that runs programs. It says which walls a program gets (`Walls`); one supervisor puts up any of
them, so that deadline, caps, watching and cleaning up are the same everywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heron.sandbox import seccomp
from heron.sandbox.limits import Limits

DELETED = "the space of files that are deleted and still open, 64 for each process, or mapped, 64 in all that the supervisor can see"
"""What every backend leaves: such files are counted one by one, and their size is not."""

READABLE = "reading the system's libraries (/usr) and the interpreter's, packages that are installed among them included"
"""What every wall leaves: interpreters need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What is put around one program."""

    command: Sequence[str] | None = None
    """A program that makes walls and starts an interpreter within (`interpreter.command_within`); None: the child does it all by itself."""
    folder: str = "."
    """What the program's folder is called within."""
    landlock: Mapping[str, Sequence[str]] | None = None
    """Folders that are `readable`, `devices`."""
    seccomp: bool = True
    """Whether the filter of system calls is put on."""
    processes: int = 0
    """Of the walls themselves, where the kernel counts them with the program's."""
    visible: int = 0
    """Of the walls themselves, where they stand below the supervisor with the program's."""
    count_user: bool = False
    """Whether the kernel counts all processes of the user with the program's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to hold a program."""

    name: str
    """How it is asked for."""
    missing: Callable[[], str | None]
    """What this machine lacks for it, and the command that helps; None if nothing is known to be missing."""
    walls: Callable[[Limits, int | None], Walls]
    """Around one program, for the user that it becomes, or None if it stays who we are."""
    holds: tuple[str, ...]
    """What it stops."""
    leaves: tuple[str, ...]
    """What it does not stop."""


def missing_tables() -> str | None:
    """Whether the filter knows this machine's system calls."""
    machine = platform.machine()
    if platform.system() != "Linux":
        return f"this is {platform.system()}, and it needs Linux: use a Linux machine or container"
    if machine not in seccomp.ARCHITECTURES:
        return f"the system calls of {machine} are not known to the filter: use {' or '.join(seccomp.ARCHITECTURES)}"
    return None
