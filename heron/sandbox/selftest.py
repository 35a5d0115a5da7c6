"""Runs hostile programs in a backend and says of each whether it was held, and why not.

The hard idea: an attack needs something to reach. `Victims` sets it up: a secret file and a folder that everybody may use, a process of
our own, listeners on every kind of socket. So "held" means that the sandbox held it and not that there was nothing to find.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from heron.errors import SandboxError
from heron.sandbox import seccomp, syscalls
from heron.sandbox.attacks import ATTACKS, ESCAPED, PRELUDE, Attack
from heron.sandbox.backends import BACKENDS
from heron.sandbox.limits import Limits, Result, Status
from heron.sandbox.running import run_in

LIMITS = Limits(seconds=1.5, memory_mb=256, processes=8)
"""Of every attack: gentle to the machine where one succeeds."""
SHORT = replace(LIMITS, seconds=0.5)
"""Of those that must be ended by the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attack."""

    attack: str
    """Its name."""
    problem: str
    """How it got out; empty if it was held."""
    result: Result
    """How its program ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Victims:
    """What attacks try to reach."""

    name: str
    """That each process of an attack carries."""
    facts: tuple[object, ...]
    """What the prelude is told."""
    outside: Path
    """A folder in which nothing may come to be."""
    process: subprocess.Popen[bytes]
    """Which must stay alive."""


def selftest(backend: str, attacks: Iterable[Attack] = ATTACKS) -> Iterator[Outcome]:
    """One outcome for each attack, as they come."""
    with victims() as targets:
        for attack in attacks:
            limits = SHORT if attack.ends == (Status.TIMEOUT,) else LIMITS
            try:
                result = run_in(BACKENDS[backend], attack_code(attack, targets), "", limits)
            except SandboxError as error:  # boundary: one attack
                result = Result(status=Status.FAILED, reason=f"{ESCAPED}: {error}", stdout="", stderr="", seconds=0.0, backend=backend)
            yield Outcome(attack=attack.name, problem=_problem(attack, result, targets), result=result)
            _restore(targets.outside)


def attack_code(attack: Attack, targets: Victims) -> str:
    """The whole program."""
    return PRELUDE.format(name=targets.name, facts=targets.facts) + f"CLONE = {syscalls.CLONE[_column()]}\n" + attack.code


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    """Sets them up, and takes them down."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heron-victims-")))
        outside = folder / "outside"
        outside.mkdir()
        (folder / "secret").write_text("the secret")
        (folder / "secret").chmod(0o666)
        _restore(outside)
        folder.chmod(0o755)
        outside.chmod(0o777)
        abstract = f"\0heron-{os.getpid()}-{folder.name}"
        tcp = stack.enter_context(_listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)))
        udp = stack.enter_context(_listener(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)))
        for name in (abstract, str(folder / "socket")):
            stack.enter_context(_listener(socket.AF_UNIX, socket.SOCK_STREAM, name))
        (folder / "socket").chmod(0o777)
        process = subprocess.Popen(["/bin/sleep", "600"])
        stack.callback(process.wait)
        stack.callback(process.kill)
        facts = (_numbers(), str(folder / "secret"), str(outside), process.pid, os.getpid(), tcp.getsockname()[1], udp.getsockname()[1],
                 abstract, str(folder / "socket"))
        yield Victims(name=f"h{os.getpid() % 10**6}x{os.urandom(3).hex()}", facts=facts, outside=outside, process=process)


def survivors(name: str) -> list[int]:
    """Processes that carry a name."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(int(pid))
    return found


def _problem(attack: Attack, result: Result, targets: Victims) -> str:
    lines = [line for line in (result.reason, *result.stdout.splitlines()) if line.startswith(ESCAPED)]
    if lines:
        return lines[0][len(ESCAPED):].strip() or "it got out"
    if alive := survivors(targets.name):
        return f"processes {alive} survive"
    if targets.process.poll() is not None:
        return "it killed a process of ours"
    if {path.name: path.stat().st_size for path in targets.outside.iterdir()} != {"file": len("a file")}:
        return "it changed files outside"
    if result.status not in attack.ends:
        return f"it ended as {result.status.value}: {result.reason} {result.stderr[-200:]}".strip()
    return ""


def _restore(outside: Path) -> None:
    """As it was before, for the next attack."""
    for path in outside.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    (outside / "file").write_text("a file")
    (outside / "file").chmod(0o666)


def _listener(family: int, kind: int, address: tuple[str, int] | str) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.bind(address)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def _numbers() -> Mapping[str, int | None]:
    return {name: numbers[_column()] for name, numbers in syscalls.NUMBERS.items()}


def _column() -> int:
    return list(seccomp.ARCHITECTURES).index(platform.machine())
