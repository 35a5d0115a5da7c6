"""Programs a second in the sandbox, for each backend that holds here, beside a plain subprocess, which holds nothing back.

    python -m benchmarks.sandbox [--quick] [--write]

The program prints one number; a pool of threads keeps as many running as there are processors for us, which is how rewards run them.
Every answer is checked. The sides take turns and the best round of each counts, so that a busy machine is as busy for all; the cost in
processor time, which a busy machine changes less, stands beside. The bar is for what `auto` takes, on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.sandbox import backend_name, run, tree
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import why_not

NAME = "sandbox"
GOAL = 40.0
"""Programs a second."""
PLAIN = "plain subprocess"
PROGRAM = "print(6 * 7)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to run the program."""

    name: str
    """In the table."""
    per_second: float
    """Programs, in the best round."""
    cpu_ms: float
    """Processor time of a program with all that it takes, in milliseconds, in the best round."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    sides = measure(sides_here(), programs=40 if options.quick else 200, rounds=2 if options.quick else 5)
    return conclude(table(sides), bar(sides, backend_name()), machine=describe_machine(processors()), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Programs a second in the sandbox.")
    made.add_argument("--quick", action="store_true", help="few programs: under half a minute on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def sides_here() -> dict[str, Callable[[], str]]:
    """What can run the program here; each returns what it printed."""
    held = {name: _in_backend(name) for name in BACKENDS if why_not(name) is None}
    return {**held, PLAIN: _plainly}


def measure(runners: dict[str, Callable[[], str]], *, programs: int, rounds: int) -> list[Side]:
    """The sides take turns."""
    for runner in runners.values():
        runner()
    measured = {name: [_round(runner, programs)] for name, runner in runners.items()}
    for _ in range(rounds - 1):
        for name, runner in runners.items():
            measured[name].append(_round(runner, programs))
    return [
        Side(name=name, per_second=max(speed for speed, _ in found), cpu_ms=min(cost for _, cost in found))
        for name, found in measured.items()
    ]


def table(sides: Sequence[Side]) -> Table:
    """One row a side."""
    return Table(
        title="Trivial programs, one interpreter each", columns=("who", "programs/s", "CPU ms a program"),
        rows=tuple((side.name, f"{side.per_second:.1f}", f"{side.cpu_ms:.1f}") for side in sides),
        notes=(f"As many at once as there are processors for us: {processors()}. Best of the rounds; sides take turns.",
               f"Not measured, since they do not hold here: {', '.join(name for name in BACKENDS if why_not(name)) or 'none'}."),
    )


def bar(sides: Sequence[Side], chosen: str) -> Bar:
    """The speed of what `auto` takes."""
    speed = next(side.per_second for side in sides if side.name == chosen)
    return Bar(name=NAME, met=speed >= GOAL, figure=f"{speed:.1f} programs/s in {chosen}", goal=f"{GOAL:.0f}")


def processors() -> int:
    """For us."""
    return len(os.sched_getaffinity(0))


def _in_backend(name: str) -> Callable[[], str]:
    return lambda: run(PROGRAM, backend=name).stdout


def _plainly() -> str:
    return subprocess.run([sys.executable, "-I", "-S", "-c", PROGRAM], capture_output=True, text=True, check=True).stdout


def _round(runner: Callable[[], str], programs: int) -> tuple[float, float]:
    """Programs a second, and milliseconds of processor time a program."""
    began, busy = time.monotonic(), _busy_seconds()
    with ThreadPoolExecutor(max(2, processors())) as pool:
        printed = set(pool.map(lambda _: runner(), range(programs)))
    assert printed == {"42\n"}, printed
    return programs / (time.monotonic() - began), (_busy_seconds() - busy) / programs * 1000


def _busy_seconds() -> float:
    """Processor time of this process and of all that it started, living or waited for."""
    below = 0
    for pid in tree.descendants(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            below += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system + below / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
