"""SIGKILL at fifty points of a training: in each of its phases, and at any moment. What comes out is what would have come out without."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_runs import outcome

from heron.run import Run
from heron.training.keeping import fault_of

TESTS = Path(__file__).resolve().parents[1]
STEPS = 4
BY_PHASE = {
    "full": (
        ("sample", 1), ("sample", 12), ("score", 3), ("score", 20), ("backward", 1), ("backward", 5), ("train", 4), ("evaluate", 2),
        ("evaluate", 14), ("record", 1), ("record", 9), ("write", 1), ("write", 10), ("write", 18), ("copy", 2), ("retire", 1),
    ),
    "lora, two iterations": (
        ("sample", 18), ("score", 30), ("backward", 3), ("backward", 14), ("train", 15), ("evaluate", 9), ("record", 12), ("write", 5),
        ("copy", 1), ("copy", 2),
    ),
}
"""26 kills."""
AT_RANDOM = {"full": (4, 3), "lora, two iterations": (4, 3)}
"""Runs, and kills of each, one after the other: 24."""


@dataclass
class Lives:
    """Forks of one process that has imported everything."""

    process: subprocess.Popen[bytes]

    def end_of(self, **life: Any) -> tuple[int, float]:
        """Have one, and wait for its end: its status, and the seconds that it lasted."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(life).encode() + b"\n")
        self.process.stdin.flush()
        _, status, seconds = self.line().split()
        return int(status), float(seconds)

    def whole(self, **life: Any) -> float:
        """A life to its end; the seconds that it took."""
        status, seconds = self.end_of(**life)
        assert status == 0, "it failed; see its traceback"
        return seconds

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@pytest.fixture(scope="module")
def lives(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "training")))
    with subprocess.Popen(
        [sys.executable, str(TESTS / "faults" / "mortal.py"), str(tiny_folder("qwen3")), str(tmp_path_factory.mktemp("scratch"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths},
    ) as process:  # fmt: skip
        made = Lives(process)
        assert made.line() == "ready"
        yield made


@dataclass
class Expected:
    """A run that nobody killed."""

    result: dict[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def expected(lives: Lives, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    made = {}
    for variant in BY_PHASE:
        folder = tmp_path_factory.mktemp("whole") / "run"
        seconds = lives.whole(variant=variant, folder=str(folder))
        made[variant] = Expected(result(Run(folder)), seconds)
    return made


def result(run: Run) -> dict[str, Any]:
    """What a finished run came to."""
    found = outcome(run)
    steps = [record["step"] for record in found["metrics"]]
    assert run.status == "finished" and steps == list(range(1, STEPS + 1)) and found["weights"], "no step is missing, none is there twice"
    return found


def tidy(run: Run) -> bool:
    """Nothing half done lies about, and every checkpoint is whole."""
    left = [path.name for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")]
    return not left and all(fault_of(path) is None for path in (run.path / "checkpoints").glob("step-*"))


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "phase", "nth"), [(variant, *kill) for variant, kills in BY_PHASE.items() for kill in kills])
def test_killed_in_a_phase(
    lives: Lives, expected: dict[str, Expected], tmp_path: Path, variant: str, phase: str, nth: int
) -> None:
    """Prevents: anything that a step, a save or an evaluation leaves half done and that what follows takes for whole."""
    life = {"variant": variant, "folder": str(tmp_path / "run")}
    status, _ = lives.end_of(**life, phase=phase, nth=nth)
    assert status == -signal.SIGKILL, "that moment never came"
    lives.whole(**life)
    run = Run(tmp_path / "run")
    assert result(run) == expected[variant].result and tidy(run)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "number"), [(variant, number) for variant, (runs, _) in AT_RANDOM.items() for number in range(runs)])
def test_killed_at_any_moment_again_and_again(
    lives: Lives, expected: dict[str, Expected], tmp_path: Path, variant: str, number: int
) -> None:
    """Prevents: what no phase has a name for, and what only a second death finds."""
    source, kills, runs = random.Random(f"{variant} {number}"), 0, 0
    while kills < AT_RANDOM[variant][1]:
        folder = tmp_path / str(runs)
        life = {"variant": variant, "folder": str(folder)}
        status, _ = lives.end_of(**life, after=source.uniform(0.02, 0.6) * expected[variant].seconds)
        kills += status == -signal.SIGKILL
        has_begun = (folder / "run.json").exists()
        is_over = has_begun and Run(folder).status == "finished"  # the kill came too late
        if is_over or kills == AT_RANDOM[variant][1] or not has_begun:
            runs += 1
        if has_begun and (is_over or kills == AT_RANDOM[variant][1]):
            if not is_over:
                lives.whole(**life)
            assert result(Run(folder)) == expected[variant].result and tidy(Run(folder))
