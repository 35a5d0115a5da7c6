"""What `heron runs` and `heron doctor` print. Everything that a run says of itself is cleaned before it reaches the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heron.errors import RunError
from heron.run import Run, diagnose, print_report, sparkline
from heron.run.about import about, end_figures, figures_in_words
from heron.run.alerts import Alert
from heron.run.compare import Difference, set_otherwise
from heron.run.doctor import Passed, passed
from heron.run.flaws import flaws
from heron.run.machine import Fact, as_lines
from heron.run.report import print_flaws
from heron.run.snapshot import Snapshot
from heron.run.text import clean, count, one_line, share

FOR_A_WHILE = "Looked wrong for a while"
LONGEST = 60
"""Characters of a setting that are shown."""


def print_runs(folder: Path, runs: Sequence[Run]) -> None:
    """One line a run, then what cannot be read of which."""
    console, table = Console(), _table("run", "status", "model", "steps", "accuracy", "reward")
    listed = [(run.path.name, *_listed(Snapshot(run))) for run in runs]
    for name, cells, _ in listed:
        table.add_row(*(Text(clean(cell)) for cell in (name, *cells)))
    console.print(table if runs else Text(f"There are no runs in {folder}. Start one with: heron train"))
    for name, _, sentences in listed:
        for sentence in sentences:
            console.print(Text(clean(f"! {name}: {sentence}"), style="yellow"), soft_wrap=True)


def _listed(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cells of a run, and what is wrong with its record."""
    try:
        evaluations, metrics = run.evaluations(), run.metrics()
        accuracy = " → ".join(share(evaluations.get(name, {}).get("accuracy")) for name in ("before", "after"))
        curve = sparkline([record.get("reward") for record in metrics], 20)
        return (run.status, str(run.manifest.get("model", "?")), count(len(metrics)), accuracy, curve), flaws(run)
    except (RunError, OSError) as error:  # boundary: one run of a list
        return ("unreadable", "-", "-", "-", ""), (str(error),)


def print_run(run: Run) -> None:
    """What it is, what looked wrong, what it came to."""
    run = Snapshot(run)
    console, table = Console(), Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for label, words in about(run).items():
        table.add_row(Text(label), Text(words, overflow="fold"))
    if curve := sparkline([record.get("reward") for record in run.metrics()], 60):
        table.add_row(Text("reward"), Text(curve, style="green"))
    console.print(table)
    alerts = diagnose(run)
    _print_alerts(console, alerts)
    if gone := passed(run, alerts):
        console.print(Text(f"{FOR_A_WHILE}: {', '.join(map(_once, gone))}", style="yellow"), soft_wrap=True)
    print_report(run, console, show=0)


def print_difference(one: Run, other: Run) -> None:
    """Settings first, then figures."""
    console, names = Console(), (clean(one.path.name), clean(other.path.name))
    otherwise = set_otherwise(one, other)
    console.print(_compared("set otherwise", names, otherwise) if otherwise else Text("Nothing was set otherwise."))
    console.print(_figures(names, one, other))


def print_machine(facts: Sequence[Fact]) -> None:
    """The machine, to read or to paste."""
    for line in as_lines(facts):
        Console().print(Text(line, style="yellow" if line.startswith("!") else ""), soft_wrap=True)


def print_diagnosis(run: Run) -> None:
    """What cannot be read of a run, what looks wrong with it, and what looked wrong for a while."""
    console, run = Console(), Snapshot(run)
    alerts = diagnose(run)
    gone = passed(run, alerts)
    print_flaws(run, console)
    _print_alerts(console, alerts)
    if not alerts:
        console.print(f"Nothing looks wrong with this run{' any more' if gone else ''}.")
    if gone:
        console.print(f"{FOR_A_WHILE}:")
    for each in gone:
        console.print(Text(f"- {_once(each)}: {clean(each.alert.evidence)}"), soft_wrap=True)


def _once(each: Passed) -> str:
    """What looked wrong, and when that was told."""
    return clean(f"{each.alert.title} (step {each.step})")


def _print_alerts(console: Console, alerts: Sequence[Alert]) -> None:
    for alert in alerts:
        console.print(Text(f"! {alert.title}", style="bold yellow"))
        console.print(Text(f"  {clean(alert.evidence)}\n  {clean(alert.advice)}"), soft_wrap=True)


def _figures(names: tuple[str, str], one: Run, other: Run) -> Table:
    first, second = figures_in_words(end_figures(one)), figures_in_words(end_figures(other))
    table = _table("came to", *names)
    for label in first:
        if {first[label], second[label]} != {"-"}:
            table.add_row(*(Text(clean(cell)) for cell in (label, first[label], second[label])))
    return table


def _compared(title: str, names: tuple[str, str], found: Sequence[Difference]) -> Table:
    table = _table(title, *names)
    for each in found:
        cells = (each.name, _cell(each.first), _cell(each.second))
        table.add_row(*(Text(clean(cell), overflow="fold") for cell in cells))
    return table


def _cell(value: Any) -> str:
    """A value in few characters; a dash where a run has none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else one_line(value, LONGEST)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(Text(column))
    return table
