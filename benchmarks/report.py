"""A table that reads alike on a terminal and in a Markdown file, and the bar that a benchmark ends with."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
"""Where `--write` appends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Named columns, rows of text, and what the reader has to know besides."""

    title: str
    """What was measured."""
    columns: tuple[str, ...]
    """Headings."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, one for each heading."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""

    def text(self) -> str:
        """For a terminal: columns aligned, the first to the left, the others to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        body = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, "", body[0], "-" * max(map(len, body)), *body[1:], "", *self.notes])

    def markdown(self) -> str:
        """For a file."""
        rule = "|".join(["---", *["---:"] * (len(self.columns) - 1)])
        rows = [f"| {' | '.join(line)} |" for line in self.rows]
        return "\n".join([f"| {' | '.join(self.columns)} |", f"|{rule}|", *rows, "", *(f"- {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a benchmark must reach, and whether it did."""

    name: str
    """The benchmark's."""
    met: bool
    """Whether the goal was reached."""
    figure: str
    """What was reached."""
    goal: str
    """What was asked for."""

    def line(self) -> str:
        """The last line of the output."""
        return f"bar {self.name}: {'met' if self.met else 'missed'}, {self.figure} (goal {self.goal})"

    @property
    def exit_code(self) -> int:
        """1 if the goal was missed."""
        return 0 if self.met else 1


def conclude(table: Table, bar: Bar, *, machine: str, write: bool, folder: Path = RESULTS) -> int:
    """Print table and bar, append them to the benchmark's file if asked to, and return the exit code."""
    print(f"\n{table.text()}\n{machine}")
    if write:
        print(f"written to {append(table, bar, machine=machine, folder=folder)}")
    print(bar.line())
    return bar.exit_code


def append(table: Table, bar: Bar, *, machine: str, folder: Path = RESULTS) -> Path:
    """Add a dated section to `<folder>/<benchmark>.md`."""
    path = folder / f"{bar.name}.md"
    folder.mkdir(parents=True, exist_ok=True)
    opening = path.read_text() if path.is_file() else f"# {bar.name}\n\nWritten by `python -m benchmarks.{bar.name} --write`.\n"
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.write_text(f"{opening}\n## {today}\n\n{machine}. {table.title}\n\n{table.markdown()}\n\n`{bar.line()}`\n")
    return path


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
