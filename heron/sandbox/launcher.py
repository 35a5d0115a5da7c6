"""Runs inside the child, before the untrusted program: lowers its own limits, says so, and becomes the program.

The hard idea: limits must be set between fork and exec, but running Python there (`preexec_fn`) can deadlock a parent
that has threads, as every trainer has. So the child is this script, which sets them and replaces itself; limits
survive an exec. One byte on the pipe tells the parent that all limits hold; without it nothing was run.

    python launcher.py READY_FD SECONDS MEMORY_BYTES FILE_BYTES PROGRAM
"""

import os
import resource
import sys


def main() -> None:
    """Sets the limits, reports, and executes the program."""
    ready, seconds, memory, file_size = (int(argument) for argument in sys.argv[1:5])
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        lower(limit, value)
    os.write(ready, b"1")
    os.close(ready)
    os.execv(sys.executable, [sys.executable, "-I", "-B", "-X", "utf8", sys.argv[5]])


def lower(limit: int, value: int) -> None:
    """Sets a limit that cannot be raised again; a machine's own lower limit stays."""
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
