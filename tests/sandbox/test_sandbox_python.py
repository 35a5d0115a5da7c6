"""The sandbox: what it promises to stop, it stops; what it returns can be trusted to be the program's, not ours."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from heron.errors import SandboxError
from heron.sandbox import Status, limits, run_python


def _run(program: str, **options):
    return run_python(textwrap.dedent(program), **{"timeout": 5.0, **options})


def test_output_input_and_unicode() -> None:
    """Prevents: lost output, and input that never arrives."""
    outcome = _run("print(input() + '→', end='')", stdin="grüße\nsecond")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (Status.FINISHED, "grüße→", "")
    assert 0 < outcome.seconds < 60


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("1/0", "ZeroDivisionError"),
        ("raise SystemExit(3)", ""),
        ("def", "SyntaxError"),
        ("'\ud800'", "SyntaxError"),
        ("\0", "SyntaxError"),
        ("import os; os.kill(os.getpid(), 11)", ""),
        ("x = bytearray(10**10)", "MemoryError"),
    ],
)
def test_failures_are_the_programs_own(program: str, shown: str) -> None:
    """Prevents: a program that crashes the grader, or one that fails and counts as finished."""
    outcome = _run(program)
    assert outcome.status is Status.FAILED and shown in outcome.stderr


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
)
def test_deadline_ends_every_program(program: str) -> None:
    """Prevents: a step that never ends, by looping, sleeping, ignoring signals, stopping itself."""
    assert _run(program, timeout=0.3).status is Status.TIMEOUT


def test_children_in_the_group_are_killed(tmp_path: Path) -> None:
    """Prevents: processes that pile up behind programs that have ended."""
    started = tmp_path / "started"
    program = f"""
        import os, sys, time
        try:
            child = os.fork()
        except BlockingIOError:
            open({str(started)!r}, "w").write("refused"); sys.exit()
        if child == 0:
            time.sleep(60)
        open({str(started)!r}, "w").write(str(child))
    """
    assert _run(program).status is Status.FINISHED
    child = started.read_text()
    assert child == "refused" or not _is_running(int(child))


def _is_running(pid: int) -> bool:
    """Waits a little: killed processes of others are reaped when init comes to it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return False
        time.sleep(0.05)
    return True


def test_floods_of_output_are_cut() -> None:
    """Prevents: a grader that runs out of memory, or blocks on a full pipe."""
    outcome = _run("import sys\nwhile True: sys.stdout.write('x' * 65536)")
    assert outcome.status is Status.FAILED and len(outcome.stdout) == 1 << 20
    assert _run("import os; os.write(1, b'\\xff')").stdout == "�"


def test_environment_and_folder_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: tokens handed to programs, and files left where the trainer runs."""
    monkeypatch.setenv("HF_TOKEN", "secret-value")
    outcome = _run("import os; print(dict(os.environ)); print(os.getcwd()); open('left.txt', 'w').close()")
    folder = outcome.stdout.splitlines()[-1]
    assert outcome.status is Status.FINISHED and "secret-value" not in outcome.stdout
    assert folder != os.getcwd() and not os.path.exists(folder)


def test_open_files_of_ours_are_not_inherited(tmp_path: Path) -> None:
    """Prevents: a checkpoint or a socket of the trainer in the hands of a program."""
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        program = "import os\nfor n in range(3, 256):\n    try: os.fstat(n); print(n)\n    except OSError: pass"
        assert _run(program).stdout == ""


def test_limits_cannot_be_raised_again() -> None:
    """Prevents: a program that lifts its own limits (an ordinary user's; root can)."""
    program = """
        import os, resource
        if os.getuid() == 0: os.setuid(65534)
        try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); print("raised")
        except ValueError: print("refused")
    """
    assert _run(program).stdout == "refused\n"


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"memory_mb": 1}])
def test_senseless_limits_are_refused(options) -> None:
    """Prevents: an interpreter that cannot start, taken for a program that failed."""
    with pytest.raises(SandboxError):
        run_python("print(1)", **options)


def test_not_getting_started_is_an_error_and_no_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents: a machine that cannot set limits, which marks every program wrong."""
    broken = tmp_path / "launcher.py"
    broken.write_text("raise OSError('no limits here')")
    monkeypatch.setattr("heron.sandbox.python.LAUNCHER", broken)
    with pytest.raises(SandboxError, match="no limits here"):
        run_python("print(1)")


def test_docs_say_what_is_not_stopped() -> None:
    """Prevents: a fence that is sold as a wall."""
    not_stopped = limits().partition("NOT stopped")[2]
    assert "the network" in not_stopped and "reading and writing every file" in not_stopped


def test_sandbox_needs_nothing_but_the_standard_library() -> None:
    """Prevents: torch in a process that only runs programs."""
    code = "import sys, heron.sandbox; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
