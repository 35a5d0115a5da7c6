"""A report on the terminal: the rows, the prompts, the rewards, the model's answers, then the findings and the verdict.

The one hard idea: everything that comes from rows or from the model is cleaned and never read as markup. Long lists are cut here and
nowhere else: `--json` has all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heron.checking.findings import Lengths, Level, Report, RowCounts, Signal, Trial, sorted_by_level
from heron.checking.trials import BARE, EMPTY, GOLD, KINDS, OTHERS, WRONG
from heron.run.text import clean, count, number, one_line, share, short_duration

SHOWN = 5
"""Rows of a finding."""
HEADS = {GOLD: "gold", BARE: "gold, no format", EMPTY: "empty", WRONG: "wrong", OTHERS: "another's gold"}
STYLES = {Level.ERROR: "bold red", Level.WARNING: "bold yellow", Level.NOTE: "dim"}


def print_report(report: Report, console: Console | None = None) -> None:
    """All of it, the verdict last."""
    console = console or Console()
    if report.rows is not None:
        console.print(_rows(report.rows), soft_wrap=True)
    if report.lengths is not None:
        console.print(_lengths(report.lengths), soft_wrap=True)
        console.print(_example(report.lengths))
    if report.trials:
        console.print(_trials(report.trials))
    if report.signal is not None:
        console.print(_signal(report.signal))
        for row, text in report.signal.examples:
            console.print(Text(f"unreadable, {clean(row)}: {one_line(text, 160)}", style="dim"), soft_wrap=True)
    for finding in sorted_by_level(report.findings):
        console.print(Text(f"{finding.level}: {clean(finding.text)}", style=STYLES[finding.level]), soft_wrap=True)
        more = [f"and {len(finding.rows) - SHOWN} more (--json lists all)"] if len(finding.rows) > SHOWN else []
        for line in (*map(clean, finding.rows[:SHOWN]), *more, *([f"→ {clean(finding.advice)}"] if finding.advice else [])):
            console.print(Text(f"  {line}"), soft_wrap=True)
    console.print(Text(report.verdict, style="bold"), soft_wrap=True)


def _rows(rows: RowCounts) -> Text:
    return Text(
        f"Rows: {count(rows.train)} to train on, {count(rows.heldout)} held out, {count(rows.left_out)} left out since they ask a held-out "
        f"question, {count(rows.unusable)} that cannot be used, {count(rows.duplicates)} duplicates."
    )


def _lengths(lengths: Lengths) -> Text:
    shares = ", ".join(f"{value} ({name} %)" for name, value in lengths.percentiles.items())
    context = "an unknown context" if lengths.context is None else f"a context of {count(lengths.context)}"
    prefilled = f" The template writes {clean(lengths.prefilled)} itself." if lengths.prefilled else ""
    return Text(f"Prompts: {shares} tokens; {lengths.max_completion_length} for the answer, in {context}.{prefilled}")


def _example(lengths: Lengths) -> Panel:
    title = Text(f"{clean(lengths.example_id)}, as the model sees it")
    return Panel(Text(clean(lengths.example)), title=title, title_align="left", border_style="dim")


def _trials(trials: Sequence[Trial]) -> Table:
    """Functions by line, made-up answers by column: the mean over the tried rows, with the range where they differ."""
    table = Table(box=SIMPLE_HEAD)
    width = min(24, max(map(len, trials[0].rewards)))
    table.add_column(f"reward, {len({trial.row for trial in trials})} rows", overflow="fold", min_width=width)
    kinds = [kind for kind in KINDS if any(trial.kind == kind for trial in trials)]
    for kind in kinds:
        table.add_column(HEADS[kind], justify="right")
    for name in trials[0].rewards:
        table.add_row(Text(clean(name)), *(_cell([
            None if name in trial.errors else trial.rewards[name] for trial in trials if trial.kind == kind
        ], failed=any(name in trial.errors for trial in trials if trial.kind == kind)) for kind in kinds))
    table.add_section()
    table.add_row("total", *(_cell([trial.total for trial in trials if trial.kind == kind], failed=False) for kind in kinds), style="bold")
    return table


def _cell(values: Sequence[float | None], *, failed: bool) -> str:
    known = [value for value in values if value is not None]
    if failed:
        return "failed"
    if not known or min(known) == max(known):
        return number(known[0] if known else None)
    return f"{number(fmean(known))} ({number(min(known))} to {number(max(known))})"


def _signal(signal: Signal) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("the start of the run")
    table.add_column(f"{signal.prompts} prompts × {signal.samples}", justify="right")
    for label, value in (
        ("pass@1", share(signal.pass_at_1)), (f"pass@{signal.samples}", share(signal.pass_at_g)), ("mixed groups", share(signal.mixed)),
        ("truncated answers", share(signal.truncated)), ("unreadable answers", share(signal.unreadable)),
        ("best reward", number(signal.best)), ("took", short_duration(signal.seconds)),
    ):
        table.add_row(label, value)
    return table
