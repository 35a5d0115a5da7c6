"""Which backend holds programs here: tried, not guessed, once per process.

The hard idea: what a kernel, a container and a security module allow together cannot be read off anywhere, so a small program is run in
each backend and tries to get out. `auto` takes the first that holds and otherwise refuses, with what would help; it never takes less
than was asked for. A backend that was asked for by name is tried alike.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

from heron.errors import SandboxError
from heron.sandbox.backends import AUTOMATIC, BACKENDS, Backend
from heron.sandbox.limits import Limits, Result, Status
from heron.sandbox.running import run_in

PROBE = """
import os, socket
try: open({file!r}); print("reads files outside")
except OSError: pass
try: socket.socket(); print("has sockets")
except OSError: pass
try: os.kill({pid}, 0); print("reaches processes outside")
except OSError: pass
print("ran")
"""


def run(code: str, stdin: str = "", limits: Limits | None = None, *, backend: str = "auto") -> Result:
    """Runs a Python program and waits for its end; when this returns, no process and no file of it is left.

    Raises `SandboxError` if nothing here can hold it, or the sandbox itself fails; that is never an outcome of the program.
    """
    return run_in(BACKENDS[backend_name(backend)], code, stdin, limits or Limits())


def backend_name(asked: str = "auto") -> str:
    """The backend that `run` uses when asked so, for a run's record; `SandboxError` with what would help, if there is none."""
    if asked != "auto" and asked not in BACKENDS:
        raise SandboxError(f"There is no sandbox backend {asked!r}. There are: auto, {', '.join(BACKENDS)}.")
    wanted = AUTOMATIC if asked == "auto" else (BACKENDS[asked],)
    problems = []
    for backend in wanted:
        if (problem := why_not(backend.name)) is None:
            return backend.name
        problems.append(f"  {backend.name}: {problem}")
    raise SandboxError(
        f"No program was run, since the sandbox asked for ({asked}) does not hold here:\n" + "\n".join(problems)
        + "\nOr run in a container or virtual machine without secrets and name the backend unsafe-rlimit, which stops accidents only."
    )


@functools.cache
def why_not(name: str) -> str | None:
    """Why a backend does not hold here, and what would help; None if it does."""
    backend = BACKENDS[name]
    return backend.missing() or _probe(backend)


def _probe(backend: Backend) -> str | None:
    """Runs a program that tries to get out."""
    with tempfile.TemporaryDirectory(prefix="heron-probe-") as folder:
        os.chmod(folder, 0o755)
        file = Path(folder, "secret")
        file.write_text("secret")
        try:
            result = run_in(backend, PROBE.format(file=str(file), pid=os.getpid()), "", Limits(seconds=20))
        except SandboxError as error:
            return f"it does not start: {error}{_advice(str(error))}"
    found = result.stdout.split("\n")
    if result.status is not Status.FINISHED or found[-2:] != ["ran", ""]:
        return f"a first program did not run in it ({result.reason}): {result.stderr.strip()[-300:]}"
    return f"a first program {', '.join(found[:-2])}" if len(found) > 2 and backend in AUTOMATIC else None


def _advice(problem: str) -> str:
    """What helps against the refusals that are known."""
    if "uid map" in problem or "namespace" in problem or "Operation not permitted" in problem:
        return (" If this machine forbids user namespaces to ordinary users (Ubuntu 24.04): sudo sysctl "
                "kernel.apparmor_restrict_unprivileged_userns=0; in Docker: --security-opt seccomp=unconfined, or use Landlock.")
    return ""
