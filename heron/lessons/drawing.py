"""What lessons draw with: tables, sentences and signed figures, for a terminal.

The one hard idea: answers may be any text, so they are cleaned, and everything is a `Text`, never markup.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from heron.run.text import number, one_line

ZERO = 0.005
"""Smaller figures are shown as 0, without a sign."""


def figure(first: str, *columns: str, title: str | None = None) -> Table:
    """A table with a first column of words, and columns of figures."""
    drawn = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    drawn.add_column(first, no_wrap=True)
    for column in columns:
        heading = column.replace("_", " ")
        drawn.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    return drawn


def text(sentence: str, style: str = "") -> Text:
    """A sentence below a figure."""
    return Text(sentence, style=style)


def words(answer: str) -> Text:
    """An answer as a cell."""
    return Text(one_line(answer, 40))


def signed(value: float, digits: int = 2) -> str:
    """`+1.22`, `-0.41`, `0.00`."""
    return number(0.0, digits) if abs(value) < ZERO else f"{'+' if value > 0 else ''}{number(value, digits)}"


def rare(probability: float) -> str:
    """`0.3`, `0.001`, `1e-05`: a probability of any size."""
    return f"{probability:.3g}"


def listing(lessons: Mapping[str, str]) -> Table:
    """The lessons that there are, by name, and what each shows."""
    drawn = Table(box=SIMPLE_HEAD)
    drawn.add_column("lesson")
    drawn.add_column("what it shows")
    for name, summary in lessons.items():
        drawn.add_row(Text(f"heron lesson {name}", style="bold"), Text(summary))
    return drawn
