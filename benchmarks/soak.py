"""Does a long run stay as it is? Memory, open files, threads and processes over 2 000 steps of the default run.

    python -m benchmarks.soak [--quick] [--write]

Everything is on that a long run has: the record, the live view, alerts, checkpoints, evaluations. After each step the process's resident
memory is read, with the open files, the threads, the processes below and the objects that Python keeps track of. The first half is for
warming up: caches fill, and the allocator learns the sizes that there are. Of the second half the steps are gathered in twenty blocks,
whose medians the estimate is made of: Theil and Sen's slope (the median of the slopes between any two blocks), with Sen's interval of
95 %. A leak of one record a step, some 5 KiB, would show as such. The bar is met if that slope is at most one KiB a step or its interval
has 0 within, and if the fewest files, threads and processes of a block are the same in the first and in the last.

A quick run takes 800 steps on a smaller batch, with shorter answers.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.config import Config, load_config
from heron.run import TerminalView
from heron.training.assemble import assemble

NAME = "soak"
GOAL = 1.0
"""KiB of memory a step."""
BLOCKS = 20
"""Of the second half."""
QUICK = {"train": {"prompts_per_step": 2}, "rollout": {"num_generations": 4, "max_completion_length": 24}}
FIGURES = {"files": "open files", "threads": "threads", "processes": "processes below"}
"""What is to stay as it is, with the words of the table."""


@dataclass(slots=True)
class Seen:
    """A run as it was seen after each step."""

    memory: list[float] = field(default_factory=list)
    """KiB that are resident."""
    objects: list[int] = field(default_factory=list)
    """That Python's collector keeps track of."""
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)

    def __call__(self, kind: str, _: Mapping[str, Any]) -> None:
        """Hear of a step."""
        if kind != "metrics":
            return
        self.memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024)
        self.objects.append(len(gc.get_objects()))
        self.files.append(len(os.listdir("/proc/self/fd")))
        self.threads.append(len(os.listdir("/proc/self/task")))
        self.processes.append(len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """What is added in each step."""

    estimate: float
    """The median of the slopes between any two blocks."""
    low: float
    """Of the interval of 95 %."""
    high: float

    @property
    def is_none(self) -> bool:
        """No more than is allowed, or none that could be told from noise."""
        return self.estimate <= GOAL or self.low <= 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        seen = measure(config(steps=800 if options.quick else 2000, quick=options.quick), Path(folder) / "run")
    return conclude(table(seen), bar(seen), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Whether a long run stays as it is.")
    made.add_argument("--quick", action="store_true", help="800 steps on a smaller batch: about two minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def config(*, steps: int, quick: bool) -> Config:
    """The default run, measured and saved ten times in each half."""
    often = max(1, steps // 20)
    soak = {"train": {"max_steps": steps, "save_steps": often, "num_threads": 1}, "evaluation": {"size": 16, "samples": 1, "steps": often}}
    return load_config("arithmetic", soak, QUICK if quick else {})


def measure(settings: Config, run_dir: Path) -> Seen:
    """A run, looked at after each step."""
    seen = Seen()
    with open(os.devnull, "w") as nowhere:
        view = TerminalView(Console(file=nowhere, force_terminal=True, width=120))
        with view:
            assemble(settings, run_dir, listeners=[view, seen]).train()
    return seen


def blocks(values: Sequence[float]) -> list[list[float]]:
    """The second half, in twenty parts."""
    half = values[len(values) // 2 :]
    edges = [round(part * len(half) / BLOCKS) for part in range(BLOCKS + 1)]
    return [list(half[low:high]) for low, high in pairwise(edges)]


def slope(values: Sequence[float]) -> Slope:
    """Theil and Sen's, over the medians of the blocks, for each step."""
    medians = [median(block) for block in blocks(values)]
    length = len(values) / 2 / BLOCKS
    found = sorted((later - sooner) / (length * (end - begin)) for (begin, sooner), (end, later) in combinations(enumerate(medians), 2))
    reach = 1.96 * math.sqrt(BLOCKS * (BLOCKS - 1) * (2 * BLOCKS + 5) / 18)  # of Kendall's sum, without a trend
    low, high = (round((len(found) + sign * reach) / 2) for sign in (-1, 1))
    return Slope(estimate=median(found), low=found[max(0, low)], high=found[min(len(found) - 1, high)])


def fewest(values: Sequence[int]) -> tuple[int, int]:
    """Of the first block of the second half, and of the last: what comes and goes again is not counted."""
    parts = blocks(values)
    return int(min(parts[0])), int(min(parts[-1]))


def stays(seen: Seen) -> dict[str, tuple[int, int]]:
    """What must be the same at both ends."""
    return {name: fewest(getattr(seen, name)) for name in FIGURES}


def table(seen: Seen) -> Table:
    """All that was looked at."""
    memory, objects = slope(seen.memory), slope(seen.objects)
    rows = (
        ("memory (KiB a step)", *_ends(seen.memory, 1 / 1024, "MiB"), _shown(memory)),
        ("objects (a step)", *_ends(seen.objects, 1, ""), _shown(objects)),
        *((words, str(stays(seen)[name][0]), str(stays(seen)[name][1]), "") for name, words in FIGURES.items()),
    )
    return Table(
        title=f"{len(seen.memory)} steps of the default run, the second half of them", columns=("what", "begin", "end", "slope"), rows=rows,
        notes=("Slopes of Theil and Sen over the medians of twenty blocks, with Sen's interval of 95 %.",
               "No peer says what its runs take in the long run; there is nothing to compare with."),
    )


def bar(seen: Seen) -> Bar:
    """Memory's slope; files, threads and processes must stay besides."""
    found = slope(seen.memory)
    grown = [words for name, words in FIGURES.items() if len(set(stays(seen)[name])) > 1]
    figure = f"{found.estimate:+.2f} KiB a step ({found.low:+.2f} to {found.high:+.2f})" + "".join(f", {words} changed" for words in grown)
    goal = f"at most {GOAL:g} KiB or 0 within noise, nothing else changed"
    return Bar(name=NAME, met=found.is_none and not grown, figure=figure, goal=goal)


def _ends(values: Sequence[float], scale: float, unit: str) -> tuple[str, str]:
    parts = blocks(values)
    return tuple(f"{median(part) * scale:,.{1 if unit else 0}f} {unit}".strip() for part in (parts[0], parts[-1]))  # type: ignore[return-value]


def _shown(found: Slope) -> str:
    return f"{found.estimate:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


if __name__ == "__main__":
    sys.exit(main())
