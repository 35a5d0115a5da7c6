"""Limits only: a fence against accidents, for machines where nothing better works and programs are not hostile. Never taken by itself.

The hard idea: it is called what it is. A program that looks for a way out finds one here: it reads files, uses the network, and, unless
we are root, signals and traces our processes. Deadline, caps, watching and cleaning up are those of every backend.
"""

from __future__ import annotations

import platform

from heron.sandbox.backends.backend import DELETED, Backend, Walls
from heron.sandbox.limits import Limits


def _missing() -> str | None:
    return None if platform.system() == "Linux" else f"this is {platform.system()}, and it needs Linux"


def _walls(limits: Limits, uid: int | None) -> Walls:
    return Walls(seccomp=False, count_user=uid is None)


UNSAFE_RLIMIT = Backend(
    name="unsafe-rlimit", missing=_missing, walls=_walls,
    holds=("processes, memory, files in its folder, output, time: capped; what stays its child does not survive", "our environment"),
    leaves=(
        "reading and writing every file that its user can (for root: a user who owns nothing)", "the network",
        "unless we are root: signalling and tracing our processes, reading their environment", "new user namespaces",
        "shared memory and message queues that stay; memory that its processes share without a file, which is in no count", DELETED,
    ),
)
