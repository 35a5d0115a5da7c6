"""`run`: what a program does reaches us, its failures are its own, the sandbox's failures are errors, and its limits are limits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from heron.errors import SandboxError
from heron.sandbox import Limits, Result, Status, backend_name, run, running
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import why_not

HERE = [name for name in BACKENDS if why_not(name) is None]


def start(program: str, backend: str, stdin: str = "", **limits: float) -> Result:
    return run(textwrap.dedent(program), stdin, Limits(**limits), backend=backend)  # type: ignore[arg-type]


@pytest.fixture(params=HERE)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_output_input_and_unicode(backend: str) -> None:
    """Prevents: lost output, and input that never arrives."""
    result = start("print(input() + '→', end='')", backend, "grüße\nsecond")
    assert (result.status, result.reason, result.stdout, result.stderr) == (Status.FINISHED, "", "grüße→", "")
    assert 0 < result.seconds < 60 and result.backend == backend


def test_programs_are_programs(backend: str) -> None:
    """Prevents: a `__main__` that is ours, exit handlers that do not run, a library that cannot be read after the user changed."""
    result = start(
        """
        import asyncio, atexit, concurrent.futures, dataclasses, encodings.idna, sqlite3, sys, threading
        @dataclasses.dataclass
        class P: x: int
        def late(): print("late")
        if __name__ == "__main__":
            threading.Thread(target=lambda: print("thread", P(3).x)).start()
            atexit.register(late)
            async def f(): return 7
            print(sys.argv, asyncio.run(f()), sys.modules["__main__"].P is P, "heron" in sys.modules)
            sys.exit(3)
        """, backend)
    assert result.reason == "exit code 3", result.stderr
    assert sorted(result.stdout.splitlines()) == ["['program.py'] 7 True False", "late", "thread 3"]


def test_packages_are_not_on_the_path(backend: str) -> None:
    """Prevents: a program that passes since it imports what this machine has, and a start-up file of a package that runs in it."""
    result = start("import sys\nprint([p for p in sys.path if 'packages' in p], 'site' in sys.modules)", backend)
    assert result.stdout == "[] False\n"


def test_long_inputs_and_codes(backend: str) -> None:
    """Prevents: a pipe that fills before anybody reads it."""
    result = start("import sys; print(len(sys.stdin.read()))\n#" + "x" * 500_000, backend, "y" * 3_000_000)
    assert result.stdout == "3000000\n"


@pytest.mark.parametrize(("program", "shown"), [
    ("1/0", 'File "program.py", line 1, in <module>\n    1/0\n'), ("raise SystemExit(3)", ""), ("def", "SyntaxError"),
    ("'\ud800'", "SyntaxError"), ("\0", "null bytes"), ("import os; os.kill(os.getpid(), 11)", ""),
    ("x = bytearray(10**10)", "MemoryError"),
])
def test_failures_are_the_programs_own(program: str, shown: str, backend: str) -> None:
    """Prevents: a program that crashes the grader, or one that fails and counts as finished; tracebacks full of our frames."""
    result = start(program, backend)
    assert result.status is Status.FAILED and shown in result.stderr and "heron" not in result.stderr


@pytest.mark.parametrize("code", [1, 127, 129, 137, 139, 152, 255])
def test_exit_codes_are_no_signals(code: int, backend: str) -> None:
    """Prevents: a program that chose to exit with 152 as one that used up its processor time, and with 139 as one that crashed."""
    result = start(f"raise SystemExit({code})", backend)
    assert result.status is Status.FAILED and result.reason.startswith(f"exit code {code}"), result.reason


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (24, "SIGXCPU")])
def test_signals_are_named(number: int, name: str, backend: str) -> None:
    """Prevents: a crash that nobody can tell from an exit; a program that sends itself the signal of the deadline as one that met it."""
    result = start(f"import os; os.kill(os.getpid(), {number})", backend)
    assert result.status is Status.FAILED and name in result.reason, result.reason


def test_used_up_processor_time_is_a_timeout(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: threads of a library that use up processor time faster than the clock runs, as a program that fails by itself."""
    order_of = running._order

    def order(*arguments: Any) -> dict[str, Any]:
        made = order_of(*arguments)
        return {**made, "limits": {**made["limits"], "cpu": 1}}

    monkeypatch.setattr(running, "_order", order)
    result = start("while True: pass", backend, seconds=30)
    assert result.status is Status.TIMEOUT and result.reason == "killed after 1 seconds of processor time"


def test_deadline_and_what_was_printed_before(backend: str) -> None:
    """Prevents: a step that never ends, and the loss of what a slow program had already said."""
    result = start("print('so far', flush=True)\nwhile True: pass", backend, seconds=0.5)
    assert (result.status, result.stdout) == (Status.TIMEOUT, "so far\n") and 0.4 < result.seconds < 1.5


def test_output_is_cut_and_shown(backend: str) -> None:
    """Prevents: a flood in our memory; bytes that are no text as an error of ours."""
    result = start("print('x' * 5000)", backend, output_bytes=2000)
    assert result.status is Status.LIMIT and result.stdout == "x" * 2000 and result.reason == "more than output_bytes allows (2000)"
    assert start("import os; os.write(1, b'\\xff')", backend).stdout == "�"


def test_memory_of_all_processes_together(backend: str) -> None:
    """Prevents: eight processes that each stay below the limit."""
    program = "import os, time\nfor _ in range(2): os.fork()\nx = bytearray(b'x') * (60 << 20)\ntime.sleep(5)"
    result = start(program, backend, memory_mb=128)
    assert (result.status, result.reason) == (Status.LIMIT, "more than memory_mb allows (128)")


def test_output_at_the_limit_is_no_flood(backend: str) -> None:
    """Prevents: an off-by-one that kills an honest program."""
    assert start("print('x' * 1999)", backend, output_bytes=2000).status is Status.FINISHED


def test_many_at_once_stay_apart(backend: str) -> None:
    """Prevents: answers that are swapped between threads, and processes of one program counted for another."""
    program = "import os, time\nfor _ in range(3):\n  if os.fork() == 0: time.sleep(0.05); os._exit(0)\nprint(input())"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: start(program, backend, str(n), seconds=20), range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(12)]


def test_programs_do_not_find_the_one_before(backend: str) -> None:
    """Prevents: source and inputs of another program in the memory that a program is forked from."""
    secret = os.urandom(8).hex()
    start(f"print({secret!r})", backend, secret)
    program = f"""
        import gc
        found = [x for x in gc.get_objects() if isinstance(x, (dict, list)) and {secret[::-1]!r}[::-1] in str(x)[:10000]]
        print(len(found))
    """
    assert start(program, backend, seconds=20).stdout == "0\n"


def test_limits_are_checked() -> None:
    """Prevents: an interpreter that cannot start, taken for a program that failed."""
    for wrong in (
        {"seconds": 0}, {"seconds": float("inf")}, {"seconds": float("nan")}, {"memory_mb": 1}, {"processes": 0}, {"processes": True},
        {"output_bytes": 5}, {"file_bytes": 1.5},
    ):
        with pytest.raises(SandboxError, match=next(iter(wrong))):
            Limits(**wrong)  # type: ignore[arg-type]


def test_unknown_backend_is_refused() -> None:
    """Prevents: a typing error that runs a program in another sandbox than the one that was asked for."""
    with pytest.raises(SandboxError, match="There are: auto, bubblewrap, landlock, unsafe-rlimit"):
        backend_name("bubble")


def test_sandbox_needs_nothing_but_the_standard_library() -> None:
    """Prevents: torch in a process that only runs programs."""
    code = "import sys, heron.sandbox; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
