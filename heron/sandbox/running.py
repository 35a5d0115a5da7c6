"""`run`: one program, its input, its limits, and what became of it.

The hard idea: a program cannot be believed about itself. It can exit with 0 or print "passed" without solving anything, so give it only
code and inputs, and compare what it printed with the expected output out here (`grading` does).

Infrastructure that fails is an error (`SandboxError`), never an outcome of the program: a reward must not learn from an outage.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import tempfile
from collections.abc import Mapping
from typing import Any

from heron.sandbox import client, seccomp
from heron.sandbox.backends import Backend
from heron.sandbox.limits import Limits, Result, Status

FIRST_USER, USERS = 61184, 4096
"""User numbers that a program gets from root, one each: no account of a system has them, and they exist in most containers."""
_COUNTER = itertools.count()


def run_in(backend: Backend, code: str, stdin: str, limits: Limits, calls: Mapping[str, Any] | None = None) -> Result:
    """Runs a program in a backend, whether or not it was probed."""
    answer = client.ask(_order(backend, code, stdin, limits, calls))
    status, reason = _judge(answer["code"], answer["broken"], limits)
    return Result(
        status=status, reason=reason, stdout=answer["stdout"], stderr=answer["stderr"], seconds=answer["seconds"],
        backend=backend.name, report=bytes.fromhex(answer["report"]),
    )


def _order(backend: Backend, code: str, stdin: str, limits: Limits, calls: Mapping[str, Any] | None) -> dict[str, Any]:
    uid = FIRST_USER + (os.getpid() * 64 + next(_COUNTER)) % USERS if os.geteuid() == 0 else None
    walls = backend.walls(limits, uid)
    return {
        "backend": backend.name, "code": code, "stdin": stdin, "calls": calls, "uid": uid, "scratch": tempfile.gettempdir(),
        "command": walls.command, "folder": walls.folder,
        "landlock": walls.landlock, "seccomp": seccomp.build().hex() if walls.seccomp else None, "count_user": walls.count_user,
        "limits": {
            "seconds": limits.seconds, "cpu": math.ceil(limits.seconds) + 1, "memory": limits.memory_mb << 20,
            "resident": limits.memory_mb << 20, "count": limits.processes + walls.visible, "processes": limits.processes + walls.processes,
            "output": limits.output_bytes, "file": limits.file_bytes,
        },
    }


def _judge(code: int | None, broken: str, limits: Limits) -> tuple[Status, str]:
    if broken == "seconds" or code == -signal.SIGXCPU or code == 128 + signal.SIGXCPU:
        return Status.TIMEOUT, f"killed after {limits.seconds:g} seconds"
    if broken == "files":
        return Status.LIMIT, "more files than a program may make or, deleted, hold by mappings"
    if broken:
        return Status.LIMIT, f"more than {broken} allows ({getattr(limits, broken)})"
    if code == 0:
        return Status.FINISHED, ""
    assert code is not None
    number = -code if code < 0 else code - 128
    known = number in set(signal.Signals)
    return Status.FAILED, f"ended by {signal.Signals(number).name}" if known else f"exit code {code}"
