"""Nothing outlives the trainer, also when it is killed with -9 in the middle of anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sittings import Lives, begun

from heron import children
from heron.sandbox import tree

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5.0


@pytest.fixture(scope="module")
def lives(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    with begun(tiny_folder("qwen3"), tmp_path_factory.mktemp("children")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["sample", "score", "train", "moved", "evaluate", "save"])
def test_nothing_is_left_of_a_trainer_that_is_killed(lives: Lives, tmp_path: Path, phase: str) -> None:
    """Prevents: reward workers, what they have detached, the sandbox's server, supervisors and programs that go on without a trainer."""
    for name in ("detach", "sandbox"):
        (lives.folder / name).touch()
    trainer = lives.begin(phase, "train|--rewards.timeout=60|--train.save_steps=3", tmp_path / "run")
    (lives.folder / "sandbox").unlink()
    assert within(20, lambda: names(tree.descendants(trainer)).count("sleep") == 1), "what a reward has detached"
    assert within(20, lambda: len(tree.descendants(trainer)) >= 7)  # keeper, worker, sleep; server, supervisor, program and its fork
    below = tree.descendants(trainer)
    os.kill(trainer, signal.SIGKILL)
    assert lives.code() == -signal.SIGKILL
    assert within(SECONDS, lambda: not any(map(is_alive, below))), names([each for each in below if is_alive(each)])


def test_what_a_command_has_detached_ends_with_it() -> None:
    """Prevents: processes that pile up behind commands that end by themselves."""
    child = children.start(["sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo; exit 3"], stdout=subprocess.PIPE)
    assert child.process.stdout is not None and child.process.stdout.readline()
    assert child.process.wait(SECONDS) == 3 and not child.process.stdout.read(), "nobody holds the pipe"
    child.end()


def test_it_ends_as_its_command_does() -> None:
    """Prevents: a crash that looks like an exit, a killed worker whose request is taken for a bad one."""
    for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM):
        child = children.start(["sh", "-c", f"kill -{int(number)} $$"])
        assert child.process.wait(SECONDS) == -number
        child.end()
    missing = children.start(["/no/such/command"], stderr=subprocess.PIPE)
    assert missing.process.wait(SECONDS) == 127
    missing.end()


def test_signals_are_passed_on_and_time_to_clean_up_is_given() -> None:
    """Prevents: a server that never hears of Ctrl-C, or is killed while it ends."""
    command = "trap 'sleep 0.3; exit 9' TERM; echo; while :; do sleep 0.05; done"
    child = children.start(["sh", "-c", command], grace=5, stdout=subprocess.PIPE)
    assert child.process.stdout is not None and child.process.stdout.readline()
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(SECONDS) == 9
    child.end()


@pytest.mark.parametrize("keeps_a_copy", [False, True])
def test_it_ends_with_its_parent_though_a_copy_of_that_lives_on(keeps_a_copy: bool) -> None:
    """Prevents: a child that waits for the closing of a pipe which a fork of the killed parent holds open; a server without its SIGTERM."""
    program = (
        "import os, sys, time; from heron import children\n"
        "child = children.start(['sh', '-c', 'trap \"exit\" TERM; sleep 1000 & setsid sleep 1000 & wait'], grace=0.5)\n"
        f"if {keeps_a_copy} and os.fork() == 0: time.sleep(20); os._exit(0)\n"
        "print(child.process.pid, flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    keeper = int(parent.stdout.readline())
    assert within(SECONDS, lambda: len(tree.descendants(keeper)) == 3)
    below = [keeper, *tree.descendants(keeper)]
    parent.kill()
    parent.wait()
    assert within(SECONDS, lambda: not any(map(is_alive, below)))


def test_a_killed_keeper_takes_its_command_along() -> None:
    """Prevents: a worker without anybody who would end it."""
    child = children.start(["sleep", "1000"])
    assert within(SECONDS, lambda: names(tree.descendants(child.process.pid)) == ["sleep"])
    (command,) = tree.descendants(child.process.pid)
    child.process.kill()
    assert within(SECONDS, lambda: not is_alive(command))
    child.end()


def names(pids: list[int]) -> list[str]:
    """What they run."""
    return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids if Path(f"/proc/{pid}").exists()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < until:
        time.sleep(0.02)
    return found
