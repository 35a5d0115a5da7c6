"""A large run behind the page: how soon it opens, how soon each question is answered, and in how much memory.

    python -m benchmarks.dashboard [--quick] [--write]

A made-up run of 100 000 steps and 1 000 000 rollouts is written to a temporary folder. `heron ui` is started on it as its user starts it, a
process of its own, and asked over HTTP for what the screens show: with nothing indexed, and, in a new process, once all is. Opening counts
from before the process is started until page, list, state and the first curves have come. Every question is asked in five rounds, and its
median counts; of a kind of question the slowest one is shown, over all filters, words and pages. Memory is the most that any of these
processes had resident. No peer has a page for this, so beside it stands the record read without the index. The browser is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.dashboard_run import GROUPS, SIBLINGS, make_run
from benchmarks.dashboard_server import Server, Timings, asked, indexed, opened, served
from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude

NAME = "dashboard"
STEPS, QUICK_STEPS = 100_000, 10_000
RUN = "run"
"""Name of the run."""
OPENS_MS, ANSWERS_MS, MEMORY_MB = 2000.0, 200.0, 300.0
"""The goals."""
KINDS = {
    "screen": "list, state, comparison, definitions, news", "curves": "12 curves", "filter": "a page of groups, any filter",
    "search": "a page of a search, any filter", "prompt": "one prompt over time", "group": "a group with its texts",
    "lengths": "histogram of lengths",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What was measured of a process."""

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
    """A server that finds nothing indexed: it opens, and indexes all while it is looked at."""
    warm: Side
    """One that finds all indexed: it opens, and answers every question."""
    record: Side
    """The record without the index."""
    index_mb: float
    """The index on disk."""

    @property
    def opens_ms(self) -> float:
        """The slower one of both openings."""
        return max(self.cold.one("opens"), self.warm.one("opens"))

    @property
    def answers_ms(self) -> float:
        """The slowest question."""
        return max(self.warm.slowest(kind)[1] for kind in KINDS)

    @property
    def peak_mb(self) -> float:
        """Of both servers."""
        return max(self.cold.peak_mb, self.warm.peak_mb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the run, measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    steps = QUICK_STEPS if options.quick else STEPS
    with tempfile.TemporaryDirectory(prefix="heron-dashboard-") as folder:
        runs = Path(folder) / "runs"
        make_run(runs / RUN, steps=steps)
        sides = measure(runs, Path(folder) / "cache")
    return conclude(table(sides, steps), bar(sides), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="A large run behind the page.")
    made.add_argument("--quick", action="store_true", help="a tenth of the run: about two minutes on one core")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def measure(runs: Path, cache: Path) -> Sides:
    """One process after the other."""
    cold, warm = (side(runs, cache, further) for further in (indexed, asked))
    size = sum(path.stat().st_size for path in (cache / "heron" / "index").iterdir()) / 2**20
    return Sides(cold=cold, warm=warm, record=record(runs / RUN), index_mb=size)


def side(runs: Path, cache: Path, further: Callable[[Server, str], Timings]) -> Side:
    """Start a server, open the page, do what is to be done further, and end it."""
    began = time.perf_counter()
    with served(runs, cache) as server:
        started = (time.perf_counter() - began) * 1000
        opened(server, RUN)
        opens = (time.perf_counter() - began) * 1000
        timings = {"starts": [started], "opens": [opens], **further(server, RUN)}
        return Side(timings=timings, peak_mb=server.peak_mb())


def record(run: Path) -> Side:
    """The record alone."""
    command = [sys.executable, "-m", "benchmarks.dashboard_record", str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    found = json.loads(printed.splitlines()[-1])
    return Side(timings=found["timings"], peak_mb=found["peak_mb"])


def table(sides: Sides, steps: int) -> Table:
    """A row for each thing that one waits for."""
    whole, scanned = sides.record.one("curves"), sides.record.one("groups")
    without = {"curves": whole, "filter": scanned, "search": scanned, "prompt": scanned, "lengths": scanned}
    rows = [
        *_openings(sides),
        *((title, _time(sides.warm.slowest(kind)[1]), _time(without.get(kind)), _time(ANSWERS_MS)) for kind, title in KINDS.items()),
        ("memory, resident at most", f"{sides.peak_mb:.0f} MB", f"{sides.record.peak_mb:.0f} MB", f"{MEMORY_MB:.0f} MB"),
        ("all indexed, in the background", _time(sides.cold.one("all indexed")), "-", "-"),
        ("a look at it meanwhile", _time(sides.cold.one("looks")), "-", "-"),
        ("the slowest such look", _time(max(sides.cold.timings["looks"])), "-", "-"),
        ("index on disk", f"{sides.index_mb:.0f} MB", "-", "-"),
    ]
    return Table(
        title=f"A run of {steps} steps and {steps * GROUPS * SIBLINGS} rollouts", rows=tuple(rows),
        columns=("what one waits for", "`heron ui`", "record alone", "goal"), notes=_notes(sides),
    )  # fmt: skip


def _openings(sides: Sides) -> list[tuple[str, str, str, str]]:
    both = {"nothing indexed": sides.cold, "indexed": sides.warm}
    return [
        *((f"opens, {state}", _time(side.one("opens")), "-", _time(OPENS_MS)) for state, side in both.items()),
        ("of that, until the address is printed", _time(sides.warm.one("starts")), "-", "-"),
    ]


def _notes(sides: Sides) -> tuple[str, ...]:
    slowest = {kind: sides.warm.slowest(kind)[0].partition(": ")[2] for kind in ("screen", "filter", "search")}
    return (
        "No peer shows groups of a run, so there is none to compare with; `record alone` reads the run's files for each question.",
        f"Of each kind the slowest question: of the screens {slowest['screen']!r}, of the filters {slowest['filter']!r}, of the searches "
        f"{slowest['search']!r}. {len(sides.warm.timings) - 2} questions over HTTP, the median of five rounds each.",
    )


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
