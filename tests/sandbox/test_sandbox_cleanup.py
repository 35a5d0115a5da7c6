"""Nothing of a program outlives its run: not when we are killed, not when its supervisor is, not when the server is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heron.errors import SandboxError
from heron.sandbox import Limits, Status, client, folder, run, tree
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import why_not
from heron.sandbox.selftest import survivors

HERE = [name for name in BACKENDS if why_not(name) is None]
PROGRAM = """
import ctypes, os, time
ctypes.CDLL(None).prctl(15, {name!r}.encode(), 0, 0, 0)
for session in (False, True):
    if os.fork() == 0:
        if session: os.setsid()
        break
open("left", "w").write("x")
time.sleep(60)
"""


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not (held := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return held


@pytest.mark.parametrize("backend", HERE)
def test_trainer_is_killed(backend: str, tmp_path: Path) -> None:
    """Prevents: programs and folders that stay when a trainer is killed with -9 in the middle of a step."""
    name = f"k{os.urandom(5).hex()}"
    script = (
        f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\nfrom heron.sandbox import Limits, run\n"
        f"run({PROGRAM.format(name=name)!r}, '', Limits(seconds=60), backend={backend!r})"
    )
    trainer = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[2])
    assert wait_for(lambda: len(survivors(name)) == 3)
    below = tree.descendants(trainer.pid)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    assert wait_for(lambda: not survivors(name) and not list(tmp_path.glob(f"{folder.PREFIX}*")))
    assert wait_for(lambda: not any(_is_alive(pid) for pid in below)), "server or supervisor stays"


@pytest.mark.parametrize("backend", HERE)
def test_supervisor_is_killed(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a program that nobody ends since its supervisor fell to the kernel's memory killer; and that outage as a wrong answer."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client._server.cache_clear()
    name = f"s{os.urandom(5).hex()}"
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            run(PROGRAM.format(name=name), "", Limits(seconds=60), backend=backend)
        except SandboxError as error:
            errors.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert wait_for(lambda: len(survivors(name)) == 3)
    (supervisor,) = tree.children(client._server(os.getpid()).process.pid)
    os.kill(supervisor, signal.SIGKILL)
    thread.join(20)
    assert "ended without a word" in str(errors[0])
    assert wait_for(lambda: not survivors(name) and not list(tmp_path.glob(f"{folder.PREFIX}*")))
    assert run("print(1)", backend=backend).stdout == "1\n"
    client._server.cache_clear()


def test_server_is_started_again() -> None:
    """Prevents: a run that fails at its thousandth step since a process was killed at the tenth."""
    backend = HERE[-1]
    run("print(1)", backend=backend)
    os.kill(client._server(os.getpid()).process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert run("print(2)", backend=backend).stdout == "2\n"


def test_threads_that_ask_at_once_share_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: sixteen servers, each with its own count of programs at once, of which fifteen stay unused."""
    started: list[int] = []

    def start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
        control, process = start_one()
        started.append(process.pid)
        return control, process

    start_one = client._start
    monkeypatch.setattr(client, "_start", start)
    client._server.cache_clear()
    together = threading.Barrier(16)

    def ask(_: int) -> str:
        together.wait()
        return run("print(1)", "", Limits(seconds=60), backend=HERE[-1]).stdout

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(16))) == {"1\n"}
    assert len(started) == 1


def test_fork_in_the_middle_of_a_start_has_its_own_server() -> None:
    """Prevents: a child of ours that waits for ever for a lock that its parent held when it was forked."""
    with client._starting(os.getpid()):
        if (pid := os.fork()) == 0:
            signal.alarm(20)
            os._exit(run("print(1)", backend=HERE[-1]).stdout != "1\n")
    assert os.waitpid(pid, 0)[1] == 0


def test_interrupted_caller_ends_the_program() -> None:
    """Prevents: Ctrl-C that leaves programs running until their deadline."""
    name = f"i{os.urandom(5).hex()}"
    order = {}

    def remember(order_: dict[str, object]) -> dict[str, object]:
        order.update(order_)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("heron.sandbox.client.ask", remember)
        run(PROGRAM.format(name=name), "", Limits(seconds=60), backend=HERE[-1])
    line = client._server(os.getpid()).line()
    client.send(line, order)
    assert wait_for(lambda: len(survivors(name)) == 3)
    line.close()
    assert wait_for(lambda: not survivors(name))


def test_folder_of_any_shape_is_removed(tmp_path: Path) -> None:
    """Prevents: folders that outgrow a path, links that lead out, and what cannot be listed, as reasons to leave a folder behind."""
    made = Path(folder.make(str(tmp_path), None))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (made / "link").symlink_to(outside)
    here = os.getcwd()
    os.chdir(made)
    try:
        for _ in range(1500):
            os.mkdir("a" * 20)
            os.chdir("a" * 20)
        os.mkdir("closed", 0)
    finally:
        os.chdir(here)
    assert folder.usage(str(made))[0] > folder.MOST_ENTRIES
    folder.remove(str(made))
    assert not made.exists() and (outside / "kept").exists()


def test_status_of_a_clean_run_is_untouched_by_its_orphans() -> None:
    """Prevents: an honest program that counts as killed since a child of it was."""
    result = run("import os, time\nif os.fork() == 0: time.sleep(60)\nelse: print('done')", "", Limits(seconds=20), backend=HERE[-1])
    assert (result.status, result.stdout) == (Status.FINISHED, "done\n") and result.seconds < 10


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
