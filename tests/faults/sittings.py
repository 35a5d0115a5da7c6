"""Commands of a small run that wait in a phase of their third step; see `signalled.py`, which is the other end of the pipe."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import signalled

TESTS = Path(__file__).resolve().parents[1]
SETTINGS = """
recipe = "arithmetic"
[model]
name = "{model}"
device = "cpu"
[data]
limit = 40
[rewards]
functions = ["{folder}/rewards.py:spread"]
weights = []
[rollout]
num_generations = 4
max_completion_length = 8
[objective]
num_iterations = 2
[train]
max_steps = 4
prompts_per_step = 2
learning_rate = 3e-3
micro_batch_tokens = 100
save_steps = 0
num_threads = 1
[evaluation]
size = 4
samples = 1
steps = 2
"""


@dataclass
class Lives:
    """Commands, one after the other, in children of a process that has imported everything."""

    process: subprocess.Popen[bytes]
    folder: Path

    def begin(self, phase: str, verb: str, run: Path) -> int:
        """Its process; returns when it waits in the phase, if it does."""
        for name in ("waiting", "go", "asked", "asked-async"):
            (self.folder / name).unlink(missing_ok=True)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{phase} {verb} {run}\n".encode())
        self.process.stdin.flush()
        pid = int(self._line().removeprefix("life "))
        until = time.monotonic() + 60
        while phase != "none" and not (self.folder / "waiting").exists():
            assert time.monotonic() < until, f"it never came to {phase}"
            time.sleep(0.01)
        return pid

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def code(self) -> int:
        """Of the exit, which is awaited."""
        return int(self._line().removeprefix("ended "))

    def run(self, verb: str, run: Path) -> int:
        """A command that waits nowhere."""
        self.begin("none", verb, run)
        return self.code()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@contextlib.contextmanager
def begun(model: Path, folder: Path) -> Iterator[Lives]:
    """Ready for commands; the recipe and its rewards lie in the folder."""
    (folder / "rewards.py").write_text(signalled.REWARDS)
    (folder / "recipe.toml").write_text(SETTINGS.format(model=model, folder=folder))
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS / "faults")))
    with subprocess.Popen(
        [sys.executable, str(TESTS / "faults" / "signalled.py"), str(folder / "recipe.toml")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("wb"), env={**os.environ, "PYTHONPATH": paths},
    ) as process:  # fmt: skip
        yield Lives(process, folder)
        assert process.stdin is not None
        process.stdin.close()
