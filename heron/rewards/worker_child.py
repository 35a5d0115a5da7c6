"""Runs inside a child of `heron.rewards.worker`: limits itself, imports what it is to do, and answers request after request.

The hard idea: what it prints and what it answers are apart. Its standard output is a pipe that the parent drains; answers go to a
descriptor of their own, so printing cannot forge one by accident. Whoever is not the process that was started (a fork that came back from
the function) ends without a word: it would read requests and answer them, too.

    python worker_child.py REQUESTS ANSWERS PACKAGES MODULE:FACTORY ARGUMENT MEMORY_BYTES
"""

import contextlib
import importlib
import json
import os
import resource
import sys


def main() -> None:
    """Answers until the parent closes the requests."""
    requests, answers = (int(end) for end in sys.argv[1:3])
    packages, target, argument, memory = sys.argv[3:7]
    sys.path[0] = packages  # in place of this script's own folder, whose files would hide standard modules
    module, _, factory = target.partition(":")
    with no_copies():
        answer = getattr(importlib.import_module(module), factory)(json.loads(argument))
    limit(int(memory))
    with open(requests, "rb") as lines, open(answers, "wb", buffering=0) as out:
        send(out, [0, None])
        for line in lines:
            number, request = json.loads(line)
            with no_copies():
                answered = answer(request)
            send(out, [number, answered])


@contextlib.contextmanager
def no_copies():  # type: ignore[no-untyped-def]
    """A fork made inside ends at the end of the block, however it gets there."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


def limit(memory: int) -> None:
    """Memory that it writes to (a machine's own lower limit stays), no core dumps, and first to go if the machine runs out of it."""
    for kind, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def send(out, value) -> None:  # type: ignore[no-untyped-def]
    """One line; a value that JSON has no word for is the factory's mistake, and ends the child with its traceback."""
    data = memoryview(json.dumps(value).encode() + b"\n")
    while data:
        data = data[out.write(data) :]


if __name__ == "__main__":
    main()
