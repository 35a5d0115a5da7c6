"""Stands between a process and its parent: when either ends, nothing of the process is left.

The one hard idea: only a process that adopts orphans can find everything that was started below it, however often it was forked and
whatever session it opened; and only one that does nothing else can be relied upon to be there. So this one starts the command, waits
for its end or for the parent's (a pipe that closes, or another parent in its place where a copy of the parent holds the pipe), kills
whatever is left below itself, and ends as the command did. It is run as a file, by itself, in a bare interpreter; signals are passed on.

    python -I -S keeper.py LIFELINE GRACE COMMAND...

GRACE is for how many seconds what is left may clean up before it is killed: after the command has ended, or after it was sent a SIGTERM as
the parent has gone. A byte on the lifeline ends all at once.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 1.0
"""Between two looks for orphans that have ended, and for the parent."""
MOST_ROUNDS = 100
"""Of killing: what forks meanwhile is found in the next one."""


def main() -> None:
    """Until the command or the parent has ended."""
    lifeline, grace, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    parent = os.getppid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child == 0:
        become(command, lifeline)
    ended: dict[int, int] = {}
    keep_no_files_but(lifeline)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: None if child in ended else os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    if await_end(child, lifeline, parent, ended):
        grace = 0.0
    if child not in ended and grace:
        os.kill(child, signal.SIGTERM)
    clear(child, ended, grace)
    end_as(ended.get(child, 0))


def clear(child: int, ended: dict[int, int], grace: float) -> None:
    """Nothing is left below this process, once it had so many seconds to end by itself."""
    until = time.monotonic() + grace
    while below() and time.monotonic() < until:
        reap(child, ended)
        time.sleep(0.02)
    for _ in range(MOST_ROUNDS):
        for each in below():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        reap(child, ended)
        if not below():
            break
        time.sleep(0.001)
    reap(child, ended)


def become(command: list[str], lifeline: int) -> None:
    """In the child: a group of its own, an end with this process's, and the command."""
    try:
        keeper = os.getppid()
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it had ended before
            os._exit(1)
        os.close(lifeline)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # an interpreter ignores them, and so would the command
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.execvp(command[0], command)
    except BaseException as error:  # boundary: a copy of the keeper that could not become the command must not go on as a keeper
        os.write(2, f"{command[0]} could not be started: {error}\n".encode())
    os._exit(127)


def keep_no_files_but(lifeline: int) -> None:
    """The command's pipes are to close when it ends."""
    os.closerange(3, lifeline)
    os.closerange(lifeline + 1, 1 << 16)


def await_end(child: int, lifeline: int, parent: int, ended: dict[int, int]) -> bool:
    """Until the command or the parent has ended; whether everything is to end at once."""
    with open(os.pidfd_open(child)) as told:
        poll = select.poll()
        poll.register(lifeline, select.POLLIN)
        poll.register(told, select.POLLIN)
        while child not in ended and os.getppid() == parent:
            if any(descriptor == lifeline for descriptor, _ in poll.poll(LOOK_SECONDS * 1000)):
                return bool(os.read(lifeline, 1))
            reap(child, ended)
    return False


def below() -> list[int]:
    """Live processes below this one."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", errors="replace") as stat:
            state, parent = stat.read().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {process for process, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def reap(child: int, ended: dict[int, int]) -> None:
    """Whatever has ended; the command's status is kept."""
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitpid(-1, os.WNOHANG))[0]:
            if dead[0] == child:
                ended[child] = dead[1]


def end_as(status: int) -> None:
    """With the command's exit code, or by the signal that ended it."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):  # SIGKILL needs none
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()
