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
USED_UP = 0.75
"""Of a limit of processor time, as an exact clock finds it when the kernel kills, which counts in ticks."""
_COUNTER = itertools.count()


def run_in(backend: Backend, code: str, stdin: str, limits: Limits, calls: Mapping[str, Any] | None = None) -> Result:
    """Runs a program in a backend, whether or not it was probed."""
    order = _order(backend, code, stdin, limits, calls)
    answer = client.ask(order)
    status, reason = _judge_limit(answer, order, limits) or _judge_end(answer["code"], told_by_command=order["command"] is not None)
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


def _judge_limit(answer: Mapping[str, Any], order: Mapping[str, Any], limits: Limits) -> tuple[Status, str] | None:
    """Of a program that broke one. A signal alone says nothing about processor time, since a program may send it to itself."""
    if (broken := answer["broken"]) == "seconds":
        return Status.TIMEOUT, f"killed after {limits.seconds:g} seconds"
    if broken == "files":
        return Status.LIMIT, "more files than a program may make or, deleted, hold by mappings"
    if broken:
        return Status.LIMIT, f"more than {broken} allows ({getattr(limits, broken)})"
    most = order["limits"]["cpu"]
    if answer["cpu"] > USED_UP * most and answer["code"] in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Status.TIMEOUT, f"killed after {most} seconds of processor time"
    return None


def _judge_end(code: int, *, told_by_command: bool) -> tuple[Status, str]:
    """Of a program that ended by itself. The command around it tells a signal as an exit code, which a program may have chosen as well."""
    if code == 0:
        return Status.FINISHED, ""
    known = {int(each): each.name for each in signal.Signals}
    if code < 0:
        return Status.FAILED, f"ended by {known.get(-code, f'signal {-code}')}"
    name = known.get(code - 128) if told_by_command else None
    return Status.FAILED, f"exit code {code}, as after {name}" if name else f"exit code {code}"
