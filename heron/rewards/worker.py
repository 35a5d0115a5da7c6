"""One child process that can be killed with all that it started, and the pipes to it.

The hard idea: a child is killed for what nobody foresaw, so nothing of it may be left, and nothing of it be taken for an answer. Answers
come back as JSON of limited length, never as pickles, which could run code in here. Each bears the number of its request: a child that says
anything else (a copy of it that a fork left behind, say) is lost, as nobody knows whose answer that was. Why a child was lost is told
apart: late, dead by its own doing, or killed by somebody else, which is no verdict about the request.

A child ends with its parent, however that ended, and so does all that it started, however it ended (`heron.children`). Left out: keeping a
child from the network or from files (it runs your code or a library, not a model's program; for those: `heron.sandbox`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

from heron import children
from heron.errors import RewardError

CHILD = Path(__file__).with_name("worker_child.py")
PACKAGES = str(Path(__file__).resolve().parents[2])
"""Where the child finds `heron`, also where it is not installed."""
LONGEST_ANSWER = 1 << 22
"""Most bytes of an answer."""
START_SECONDS = 120.0
"""For a child to import what it needs; a machine under load is slow."""
DEATH_SECONDS = 1.0
"""For a child whose pipes are closed to be seen dead."""
TWO_ANSWERS = "its process gave an answer that was not asked for, as a copy of it that a fork left behind would"
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that a process does not get for what it computes."""
MOST_PRINTED = 1 << 16
"""Bytes of a child's own output that are passed on; the rest is dropped, so that a flood costs nothing."""


class WorkerLost(Exception):
    """A child was killed at its deadline (`late`), or by somebody else (`outside`), or died, or said what nobody had asked it."""

    def __init__(self, why: str = "", *, late: bool = False, outside: bool = False) -> None:
        super().__init__(why or ("it was killed at its deadline" if late else "its process died: out of memory, or ended by itself"))
        self.late = late
        self.outside = outside


class Worker:
    """One child and the pipes to it."""

    def __init__(self, arguments: list[str]) -> None:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        ends = (request_read, answer_write)
        try:
            self._child = children.start(
                [sys.executable, str(CHILD), *map(str, ends), PACKAGES, *arguments], pass_fds=ends, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True,
            )
        finally:
            for end in ends:
                os.close(end)
        self._requests, self._answers = request_write, answer_read
        self._asked = 0
        os.set_blocking(self._answers, False)
        os.set_blocking(self._requests, False)
        self._finalizer = weakref.finalize(self, _end, self._child, (request_write, answer_read))
        assert self._child.process.stdout is not None
        self._printed = bytearray()
        threading.Thread(target=_drain, args=(self._child.process.stdout, self._printed), daemon=True).start()
        self._await_ready()

    @property
    def is_alive(self) -> bool:
        return self._ended() is None

    def ask(self, request: Any, seconds: float) -> Any:
        """One request, one answer."""
        deadline = time.monotonic() + seconds
        self._refuse_left_over()
        self._asked += 1
        self._write(json.dumps([self._asked, request]).encode() + b"\n", deadline)
        return self._read(deadline)

    def kill(self) -> None:
        """End it, and whatever it started."""
        self._finalizer()

    def _await_ready(self) -> None:
        try:
            self._read(time.monotonic() + START_SECONDS)
        except WorkerLost as lost:
            self.kill()
            said = bytes(self._printed).decode(errors="replace").strip()[-1500:] or str(lost)
            raise RewardError(f"A process for scoring could not be started: {said}") from lost

    def _write(self, data: bytes, deadline: float) -> None:
        """A pipe holds only 64 KiB: a child that reads nothing must not block us."""
        while data:
            _wait(self._requests, selectors.EVENT_WRITE, deadline)
            try:
                data = data[os.write(self._requests, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._death() from None

    def _refuse_left_over(self) -> None:
        """What comes when nothing was asked belongs to no request."""
        with contextlib.suppress(BlockingIOError):
            if os.read(self._answers, 1):
                raise WorkerLost(TWO_ANSWERS)

    def _read(self, deadline: float) -> Any:
        """The answer to the last request. One of another number, or bytes behind it, is nobody's."""
        data = bytearray()
        while b"\n" not in data:
            _wait(self._answers, selectors.EVENT_READ, deadline)
            piece = os.read(self._answers, 1 << 16)
            data += piece
            if not piece:
                raise self._death()
            if len(data) > LONGEST_ANSWER:
                raise WorkerLost(f"its answer is longer than {LONGEST_ANSWER} bytes")
        try:
            number, answer = json.loads(data)
        except (TypeError, ValueError, RecursionError):
            raise WorkerLost(TWO_ANSWERS) from None
        if number != self._asked:
            raise WorkerLost(TWO_ANSWERS)
        return answer

    def _ended(self) -> os.waitid_result | None:
        """How the child has ended, as its keeper tells; None while it lives. It is not reaped, so that no stranger can have its number."""
        return os.waitid(os.P_PID, self._child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def _death(self) -> WorkerLost:
        """Why it no longer reads or writes; it is not reaped yet."""
        deadline = time.monotonic() + DEATH_SECONDS
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(0.01)
        ended = self._ended()
        if ended is None or ended.si_code == os.CLD_EXITED or ended.si_status not in FROM_OUTSIDE:
            return WorkerLost()
        return WorkerLost(f"its process was killed from outside ({signal.Signals(ended.si_status).name}); the machine may be out of memory",
                          outside=True)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise WorkerLost(late=True)


def _environment() -> dict[str, str]:
    """Nothing of ours: no tokens. On one thread."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home()), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _drain(stream: IO[bytes], printed: bytearray) -> None:
    """Pass on what the child prints, up to a limit, and throw the rest away."""
    with contextlib.suppress(ValueError, OSError), stream:
        while piece := stream.read1(1 << 16):  # type: ignore[attr-defined]
            room = MOST_PRINTED - len(printed)
            if room > 0:
                printed += piece[:room]
                sys.stderr.write(piece[:room].decode(errors="replace"))
                if len(piece) >= room:
                    sys.stderr.write("\n(What this reward prints from here on is dropped.)\n")


def _end(child: children.Child, ends: tuple[int, ...]) -> None:
    child.end()
    for end in ends:
        os.close(end)
