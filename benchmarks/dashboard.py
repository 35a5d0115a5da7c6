"""A large run behind the page: how soon it opens, how soon each question is answered, and in how much memory.

    python -m benchmarks.dashboard [--quick] [--write]

A made-up run of 100 000 steps and 1 000 000 rollouts is written to a temporary folder and asked, in processes of their own, for what the
screens show: with nothing indexed, and once all is. Every question is asked in five rounds, and its median counts; of a kind of question
the slowest one is shown, over all filters, words and pages. No peer has a page for this, so beside it stands the record read without the
index. Network, server and browser are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.dashboard_run import GROUPS, SIBLINGS, make_run
from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude

NAME = "dashboard"
STEPS, QUICK_STEPS = 100_000, 10_000
OPENS_MS, ANSWERS_MS, MEMORY_MB = 2000.0, 200.0, 300.0
"""The goals."""
KINDS = {
    "curves": "12 curves", "filter": "a page of groups, any filter", "search": "a page of a search, any filter",
    "prompt": "one prompt over time", "group": "a group with its texts", "lengths": "histogram of lengths",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What a process measured."""

    timings: Mapping[str, Sequence[float]]
    """Milliseconds of each round, by what was done."""
    peak_mb: float
    """The most memory that it had resident."""

    def one(self, what: str) -> float:
        """The median of its rounds."""
        return median(self.timings[what])

    def slowest(self, kind: str) -> tuple[str, float]:
        """Of the questions of a kind, by their medians."""
        medians = {what: median(rounds) for what, rounds in self.timings.items() if what.startswith(f"{kind}: ")}
        return max(medians.items(), key=lambda found: found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """All that was measured."""

    cold: Side
    """The first screen with nothing indexed."""
    fill: Side
    """All of it indexed."""
    warm: Side
    """The first screen once all is indexed."""
    asked: Side
    """Every question."""
    record: Side
    """The record without the index."""
    index_mb: float
    """The index on disk."""

    @property
    def opens_ms(self) -> float:
        """The slower one of both openings."""
        return max(self.cold.one("first screen"), self.warm.one("first screen"))

    @property
    def answers_ms(self) -> float:
        """The slowest question."""
        return max(self.asked.slowest(kind)[1] for kind in KINDS)

    @property
    def peak_mb(self) -> float:
        """Of the processes that used the index."""
        return max(side.peak_mb for side in (self.cold, self.fill, self.warm, self.asked))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the run, measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    steps = QUICK_STEPS if options.quick else STEPS
    with tempfile.TemporaryDirectory(prefix="heron-dashboard-") as folder:
        sides = measure(make_run(Path(folder) / "run", steps=steps), Path(folder) / "cache")
    return conclude(table(sides, steps), bar(sides), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="A large run behind the page.")
    made.add_argument("--quick", action="store_true", help="a tenth of the run: about two minutes on one core")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def measure(run: Path, cache: Path) -> Sides:
    """One process after the other."""
    cold, fill, warm, asked, record = (side(name, run, cache) for name in ("first", "fill", "first", "asked", "record"))
    size = sum(path.stat().st_size for path in cache.iterdir()) / 2**20
    return Sides(cold=cold, fill=fill, warm=warm, asked=asked, record=record, index_mb=size)


def side(name: str, run: Path, cache: Path) -> Side:
    """A process that measures."""
    command = [sys.executable, "-m", "benchmarks.dashboard_worker", name, str(run), str(cache)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    found = json.loads(printed.splitlines()[-1])
    return Side(timings=found["timings"], peak_mb=found["peak_mb"])


def table(sides: Sides, steps: int) -> Table:
    """A row for each thing that one waits for."""
    whole, scanned = sides.record.one("first screen"), sides.record.one("groups")
    without = {"curves": whole, "filter": scanned, "search": scanned, "prompt": scanned, "lengths": scanned}
    rows = [
        ("first screen, nothing indexed", _time(sides.cold.one("first screen")), _time(whole), _time(OPENS_MS)),
        ("first screen, indexed", _time(sides.warm.one("first screen")), _time(whole), _time(OPENS_MS)),
        *((title, _time(sides.asked.slowest(kind)[1]), _time(without.get(kind)), _time(ANSWERS_MS)) for kind, title in KINDS.items()),
        ("memory, resident at most", f"{sides.peak_mb:.0f} MB", f"{sides.record.peak_mb:.0f} MB", f"{MEMORY_MB:.0f} MB"),
        ("all indexed, in the background", _time(sides.fill.one("all indexed")), "-", "-"),
        ("index on disk", f"{sides.index_mb:.0f} MB", "-", "-"),
    ]
    slowest = {kind: sides.asked.slowest(kind)[0].partition(": ")[2] for kind in ("filter", "search")}
    return Table(
        title=f"A run of {steps} steps and {steps * GROUPS * SIBLINGS} rollouts", rows=tuple(rows),
        columns=("what one waits for", "with the index", "record alone", "goal"),
        notes=(
            "No peer shows groups of a run, so there is none to compare with; `record alone` reads the run's files for each question.",
            f"Of each kind the slowest question: of the filters {slowest['filter']!r}, of the searches {slowest['search']!r}. "
            f"{len(sides.asked.timings)} questions, the median of five rounds each.",
        ),
    )  # fmt: skip


def bar(sides: Sides) -> Bar:
    """All three goals."""
    met = sides.opens_ms < OPENS_MS and sides.answers_ms < ANSWERS_MS and sides.peak_mb < MEMORY_MB
    figure = f"opens in {_time(sides.opens_ms)}, answers in {_time(sides.answers_ms)}, {sides.peak_mb:.0f} MB"
    return Bar(name=NAME, met=met, figure=figure, goal=f"{_time(OPENS_MS)}, {_time(ANSWERS_MS)}, {MEMORY_MB:.0f} MB")


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
