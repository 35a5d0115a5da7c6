"""The line to the process that programs are forked from: started when it is first needed, once per process and interpreter.

The hard idea: a trainer has threads, a large memory and secrets, so it never forks a program itself. It starts the server once (by an
exec, without its environment and descriptors) and then sends each order over a line of its own, from any thread. No more programs run at
once than there are processors, since their deadlines are by the clock.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from functools import cache
from typing import Any

from heron.errors import SandboxError
from heron.sandbox import interpreter
from heron.sandbox.wire import LineClosed, receive, send

SERVER_SECONDS = 30.0
"""For the server to start."""
BEYOND_SECONDS = 60.0
"""After a program's deadline: for starting it, for killing it, and for a busy machine."""
_LOCKS: dict[int, threading.Lock] = {}


def ask(order: dict[str, Any]) -> dict[str, Any]:
    """What became of an order; `SandboxError` if the sandbox itself failed."""
    with _starting(os.getpid()):
        server = _server(os.getpid())
    with server.places, server.line() as line:
        line.settimeout(order["limits"]["seconds"] + BEYOND_SECONDS)
        try:
            send(line, order)
            answer = receive(line)
        except (LineClosed, OSError) as error:
            raise SandboxError(f"The process that supervised a program ended without a word ({error}). Run it again; "
                               "if it happens again, look for a process killer (dmesg).") from error
    if "error" in answer:
        raise SandboxError(f"A program could not be run in the sandbox ({order['backend']}): {answer['error']}. "
                           "Try: heron sandbox status")
    return dict(answer)


class Server:
    """A running server; another one is started if it has gone."""

    def __init__(self) -> None:
        self.places = threading.BoundedSemaphore(max(2, len(os.sched_getaffinity(0))))
        self.lock = threading.Lock()
        self.control, self.process = _start()

    def line(self) -> socket.socket:
        """A new line, whose other end a supervisor has."""
        ours, theirs = socket.socketpair()
        with theirs, self.lock:
            try:
                socket.send_fds(self.control, [b"1"], [theirs.fileno()])
            except ConnectionError:  # it was killed
                self.process.wait()
                self.control, self.process = _start()
                socket.send_fds(self.control, [b"1"], [theirs.fileno()])
        return ours


@cache
def _server(pid: int) -> Server:
    """One for each process: a fork of ours starts its own."""
    return Server()


def _starting(pid: int) -> threading.Lock:
    """Held by whoever asks for the server, so that threads that ask at once start one; a fork of ours does not inherit it held."""
    return _LOCKS.setdefault(pid, threading.Lock())


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            interpreter.server_command(str(theirs.fileno()), tempfile.gettempdir()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, cwd="/", env=interpreter.ENVIRONMENT, pass_fds=(theirs.fileno(),), start_new_session=True,
        )
    ours.settimeout(SERVER_SECONDS)
    with contextlib.suppress(OSError):
        if ours.recv(1) == b"1":
            ours.settimeout(None)
            return ours, process
    process.kill()
    _, problem = process.communicate()
    told = problem.decode(errors="replace").strip()[-500:]
    raise SandboxError(f"{interpreter.executable()} could not be started for the sandbox: {told}")
