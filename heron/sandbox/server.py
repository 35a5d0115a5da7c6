"""The process that programs are forked from: a clean interpreter that holds nothing, so that starting a program costs a fork.

The hard idea: it never reads what it passes on. A client sends one end of a line over the control socket; the server forks, and only the
new supervisor reads the order from it. So no program can find the source or the inputs of another one in the memory that it was forked
from. It ends when its client does: the control socket then ends, however the client died. Supervisors outlive it until their run is
done, and what a killed supervisor left is adopted, killed and removed here.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable

from heron.sandbox import calls, folder, landlock, seccomp, tree  # noqa: F401 (two are for the children: forked, not loaded again)
from heron.sandbox.interpreter import modules_within
from heron.sandbox.supervisor import PR_SET_CHILD_SUBREAPER, supervise


def main() -> Callable[[], None]:
    """Serves until the client is gone. Returns only in a child that is to become a program; call what it returns at the top."""
    control = socket.socket(fileno=int(sys.argv[1]))
    seccomp.prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisors: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: _clean_up(supervisors, sys.argv[2]))
    control.send(b"1")
    modules_within(with_calls=True)
    gc.freeze()  # pages that no fork has to copy
    while True:
        _, lines, _, _ = socket.recv_fds(control, 1, 1)
        if not lines:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if (pid := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            control.close()
            return supervise(socket.socket(fileno=lines[0]))
        supervisors.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(lines[0])


def _clean_up(supervisors: set[int], scratch: str) -> None:
    """Reaps supervisors; those that were killed leave orphans and a folder, which go now."""
    dead = tree.reap()
    killed = [pid for pid, status in dead.items() if pid in supervisors and status != 0]
    supervisors -= dead.keys()
    while killed and (orphans := set(tree.children(os.getpid())) - supervisors):
        for pid in [each for orphan in orphans for each in (orphan, *tree.descendants(orphan))]:
            tree.kill(pid)
        dead = tree.reap()
        killed += [pid for pid, status in dead.items() if pid in supervisors and status != 0]
        supervisors -= dead.keys()
    for pid in killed:
        folder.remove_of(scratch, pid)
