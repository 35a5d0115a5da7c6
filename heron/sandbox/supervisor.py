"""Runs one program to its end, or ends it; then nothing of it is left, and its client is told.

The hard idea: this process stands between a program and everybody else. It adopts the program's orphans, reads its output up to a cap,
looks at its tree and folder every few milliseconds, and hears when its client closes the line, which a client that is killed does too.
Whatever ends the run, the same three things follow: the tree is killed, the folder is removed, the line is closed.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import resource
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from heron.sandbox import folder, seccomp, tree
from heron.sandbox.inside import FIRST_UNUSED, OPEN_FILES, READY, REPORT, give_up_rights
from heron.sandbox.interpreter import modules_within
from heron.sandbox.program import Program
from heron.sandbox.wire import LineClosed, receive, send

LOOK_SECONDS = 0.02
"""Between two looks at tree and folder."""
READY_SECONDS = 20.0
"""For giving up rights, and for starting what does: not the program's time."""
NPROC_SLACK = 64
"""Where the kernel counts all processes of a user, others of them may come to be meanwhile; our own looks are exact."""
PR_SET_CHILD_SUBREAPER = 36
FOLDER, ORDER, FILTER = "@folder", "@order", "@filter"
"""Words in a command that stand for the program's folder, and for the descriptors of its order and of the filter of system calls."""


def supervise(line: socket.socket) -> Callable[[], None]:
    """Reads an order from the line and answers it. Returns only in the child that is to become the program."""
    run = None
    try:
        run = Run(receive(line), line)
        if (program := run.start()) is not None:
            return program
        answer = run.watch()
    except LineClosed:
        answer = {"error": "nobody waits for this program any more"}
    except BaseException as error:  # boundary: one run; whatever went wrong is its client's to know
        answer = {"error": f"{type(error).__name__}: {error}"}
    if run is not None:
        run.clean_up()
    with contextlib.suppress(OSError):
        send(line, answer)
    os._exit(0)


class Run:
    """One program and its descriptors. Always `clean_up` at the end."""

    def __init__(self, order: dict[str, Any], line: socket.socket) -> None:
        self.order, self.line = order, line
        self.limits: Mapping[str, Any] = order["limits"]
        self.pipes = {name: os.pipe() for name in ("stdout", "stderr", "report", "ready")}
        self.caught = {name: bytearray() for name in self.pipes}
        self.stdin = _file("stdin", order["stdin"].encode("utf-8", "surrogatepass"))
        self.folder = folder.make(order["scratch"], order["uid"])
        self.code: int | None = None
        self.started = False

    def start(self) -> Program | None:
        """Forks; in the child, gives up all rights and returns the program, unless a command does both."""
        seccomp.prctl(PR_SET_CHILD_SUBREAPER, 1)
        if self.order["count_user"]:
            self.order["limits"]["processes"] += tree.tasks_of_user(os.getuid()) + NPROC_SLACK
        self.pid = os.fork()
        if self.pid == 0:
            try:
                return self._become()
            except BaseException as error:  # boundary: a child that may not become the program must not become a supervisor
                os.write(2, f"{type(error).__name__}: {error}".encode())
                os._exit(1)
        self.selector = selectors.DefaultSelector()
        self.selector.register(os.pidfd_open(self.pid), selectors.EVENT_READ, "ended")
        self.selector.register(self.line, selectors.EVENT_READ, "line")
        for name, (reader, writer) in self.pipes.items():
            os.close(writer)
            os.set_blocking(reader, False)
            self.selector.register(reader, selectors.EVENT_READ, name)
        return None

    def watch(self) -> dict[str, Any]:
        """Waits for the end, or brings it about; what became of the program."""
        self._until(time.monotonic() + READY_SECONDS)
        if not self.caught["ready"]:
            tree.kill_below(os.getpid())
            self._drain()
            return {"error": f"the program was not started: {self._text('stderr').strip()[-500:] or 'no word within 20 seconds'}"}
        self.started, began = True, time.monotonic()
        broken = self._until(began + self.limits["seconds"])
        seconds = time.monotonic() - began
        if not tree.kill_below(os.getpid()):
            return {"error": "processes of the program could not be killed within 5 seconds; look for them with ps"}
        self._drain()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"code": self.code, "broken": broken or self._flooded(), "seconds": seconds, "cpu": used.ru_utime + used.ru_stime,
                "report": self.caught["report"].hex(), "stdout": self._text("stdout"), "stderr": self._text("stderr")}

    def clean_up(self) -> None:
        """No process and no file survives."""
        tree.kill_below(os.getpid())
        folder.remove(self.folder)

    def _until(self, ends: float) -> str:
        """Reads until the program has started, or if it has, until it has ended; the limit that it broke, if any."""
        looked = time.monotonic()
        while self.code is None and (self.started or not self.caught["ready"]):
            now = time.monotonic()
            if now >= ends:
                return "seconds"
            for key, _ in self.selector.select(min(LOOK_SECONDS, ends - now)):
                self._hear(key)
            if broken := self._flooded():
                return broken
            if self.started and now - looked >= LOOK_SECONDS:
                looked = now
                if broken := self._look():
                    return broken
        return ""

    def _hear(self, key: selectors.SelectorKey) -> None:
        if key.data == "line":
            raise LineClosed
        if key.data == "ended":
            code = tree.reap().get(self.pid)
            self.code = code if code is None else os.waitstatus_to_exitcode(code)
        elif not self._read(key.data):
            self.selector.unregister(key.fileobj)

    def _read(self, name: str) -> bool:
        """Takes what is there, up to one byte more than allowed; whether more may come."""
        caught, most = self.caught[name], self.limits["output"] + 1
        try:
            content = os.read(self.pipes[name][0], min(1 << 16, most - len(caught)))
        except BlockingIOError:
            return True
        caught += content
        return bool(content) and len(caught) < most

    def _drain(self) -> None:
        """What is still in the pipes: nobody is left to write more."""
        for name in ("stdout", "stderr", "report"):
            while self.limits["output"] >= len(self.caught[name]):
                before = len(self.caught[name])
                self._read(name)
                if len(self.caught[name]) == before:
                    break

    def _flooded(self) -> str:
        return "output_bytes" if any(len(caught) > self.limits["output"] for caught in self.caught.values()) else ""

    def _look(self) -> str:
        pids = tree.descendants(os.getpid())
        if len(pids) > self.limits["count"]:
            return "processes"
        if tree.resident_bytes(pids) > self.limits["resident"]:
            return "memory_mb"
        entries, size = folder.usage(self.folder)
        deleted = tree.mapped_deleted_files(pids, self.order["uid"])
        if entries > folder.MOST_ENTRIES or deleted is None or deleted > OPEN_FILES:
            return "files"
        return "file_bytes" if size > self.limits["file"] else ""

    def _text(self, name: str) -> str:
        return bytes(self.caught[name][: self.limits["output"]]).decode("utf-8", errors="replace")

    def _become(self) -> Program:
        """In the child: the streams, the folder, and then no rights, or the command that takes them."""
        self.line.detach()  # closed below; an object that closed it again would close a file of the program
        os.chdir(self.folder)
        streams = [self.stdin, *(self.pipes[name][1] for name in ("stdout", "stderr", "report", "ready"))]
        if (command := self.order["command"]) is None:
            _arrange(streams)
            give_up_rights(self.order)
            return Program(self.order)
        order = _file("order", marshal.dumps({**self.order, "stdin": "", "modules": modules_within(self.order["calls"] is not None)}))
        _arrange([*streams, order, _file("filter", bytes.fromhex(self.order["seccomp"]))])
        words = {FOLDER: self.folder, ORDER: str(FIRST_UNUSED), FILTER: str(FIRST_UNUSED + 1)}
        return os.execv(command[0], [words.get(word, word) for word in command])


def _arrange(descriptors: list[int]) -> None:
    """These become 0, 1, 2, ... and are inherited; all others are closed."""
    assert (REPORT, READY, FIRST_UNUSED) == (3, 4, 5)
    high = [os.dup2(descriptor, 100 + position, inheritable=False) for position, descriptor in enumerate(descriptors)]
    for position, descriptor in enumerate(high):
        os.dup2(descriptor, position)
    os.closerange(len(descriptors), 1 << 16)


def _file(name: str, content: bytes) -> int:
    """A file in memory, to be read from its start."""
    descriptor = os.memfd_create(name)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
