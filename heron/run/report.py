"""What a run came to: the table before and after, questions with both answers side by side, and what to do next.

The one hard idea: to show is to choose, so the choice is told. Questions that turned from wrong to right come first, since they
show what was learnt, and the caption says how many there are and how many went the other way.

Left out: any statistics; the intervals are those that the evaluation recorded.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from heron.run.conversation import MOST_TEXT, said, shortened
from heron.run.flaws import flaws
from heron.run.reader import Evaluation, Run
from heron.run.records import Record
from heron.run.text import clean, count, number, one_line, share, share_with_interval

Totals = Mapping[str, Any]
Pair = tuple[Record, Record]


def print_report(run: Run, console: Console | None = None, *, show: int = 3) -> None:
    """Print `report` on the console, what of the record cannot be read, where the run lies and what to do next."""
    console = console or Console()
    console.print(report(run, show=show))
    print_flaws(run, console)
    for line in next_steps(run):
        console.print(Text(clean(line)), soft_wrap=True)


def print_flaws(run: Run, console: Console) -> None:
    """Print a line for each thing that the record lacks."""
    for sentence in flaws(run):
        console.print(Text(f"! {clean(sentence)}", style="yellow"), soft_wrap=True)


def report(run: Run, *, show: int = 3) -> RenderableType:
    """How the run ended if it did not finish, the table before and after, and `show` questions side by side."""
    held_out = _held_out(run, show)
    return held_out if run.status == "finished" else Group(_status(run), held_out)


def next_steps(run: Run) -> list[str]:
    """The run directory, and the commands that one most likely wants now."""
    commands = {
        "finished": [run.command("chat", "--compare", "start"), shlex.join(["heron", "ui", str(run.path.parent)])],
        "running": [run.command("watch")],
    }.get(run.status, [run.resume_command])
    return [f"The run is in {run.path}. Next:", *(f"  {command}" for command in commands)]


def _status(run: Run) -> Text:
    """`failed after 12 steps: RewardError: ...`."""
    steps = len(run.metrics())
    words = Text(f"{run.status} after {steps} {'step' if steps == 1 else 'steps'}", style="bold yellow")
    return words.append(f": {one_line(run.error, MOST_TEXT)}") if run.error else words


def _held_out(run: Run, show: int) -> RenderableType:
    """The comparison on held-out problems; says so where an evaluation is missing."""
    known = run.evaluations()
    if "before" not in known and "after" not in known:
        return Text("Held-out problems were not evaluated in this run (evaluation.size is 0, or it was stopped before).")
    if "before" not in known or "after" not in known:
        made = "before" if "before" in known else "after"
        missing = Text(f"There is no evaluation to compare with: the run is {run.status}.")
        return Group(_table(known, (made,)), _caption(known[made]), missing)
    before, after = run.evaluation("before"), run.evaluation("after")
    return Group(_table(known, ("before", "after")), _caption(known["after"]), *_side_by_side(before, after, show))


def choose(before: Sequence[Record], after: Sequence[Record], show: int) -> list[Pair]:
    """The problems to show: from wrong to right first, then from right to wrong, still wrong, right throughout."""
    earlier = {row["id"]: row for row in before}
    pairs = [(earlier[row["id"]], row) for row in after if row["id"] in earlier]
    return sorted(pairs, key=_preference)[:show]


def _table(known: Mapping[str, Totals], names: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=Text("Held-out problems", style="bold"), title_justify="left")
    table.add_column(Text(""))
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for label, words in _LINES:
        cells = [words(known[name]) for name in names]
        if any(cell != "-" for cell in cells):
            table.add_row(Text(label), *(Text(cell, style="bold" if label.startswith("accuracy") else "") for cell in cells))
    return table


_LINES: tuple[tuple[str, Callable[[Totals], str]], ...] = (
    ("accuracy (greedy)", lambda totals: share_with_interval(totals, "accuracy")),
    ("pass@1 (sampled)", lambda totals: share_with_interval(totals, "pass_at_1")),
    ("mean reward", lambda totals: number(totals.get("mean_reward"))),
    ("in the asked format", lambda totals: share(totals.get("format_rate"))),
    ("no readable answer", lambda totals: share(totals.get("unreadable"))),
    ("truncated", lambda totals: share(totals.get("truncated"))),
    ("mean length, tokens", lambda totals: number(totals.get("mean_length"), 1)),
)


def _caption(totals: Totals) -> Text:
    samples = totals.get("samples")
    sampled = f", pass@1 from {count(samples)} samples each" if samples else ""
    return Text(f"{count(totals.get('problems'))} problems{sampled}; in brackets the 95 % interval.", style="italic dim")


def _side_by_side(before: Evaluation, after: Evaluation, show: int) -> list[RenderableType]:
    pairs = choose(before.rows, after.rows, len(after.rows))
    if not pairs or not show:
        return []
    title = Text("The same question, before and after", style="bold")
    table = Table(box=ROUNDED, show_lines=True, expand=True, title=title, title_justify="left")
    for name, ratio in (("question", 2), ("before", 3), ("after", 3)):
        table.add_column(Text(name), ratio=ratio, overflow="fold")
    for earlier, later in pairs[:show]:
        table.add_row(_question(later), _answer(earlier), _answer(later))
    return [Text(), table, Text(choice(pairs, min(show, len(pairs))), style="italic dim")]


def choice(pairs: Sequence[Pair], show: int) -> str:
    """How those that are shown were chosen, and what there is of each kind."""
    kinds = [kind_of(pair) for pair in pairs]
    gained, lost, right, wrong = (kinds.count(kind) for kind in ("gained", "lost", "right", "wrong"))
    picked = "problems that turned from wrong to right are shown first" if gained else "none turned from wrong to right"
    changed = f"In all {gained} turned right, {lost} turned wrong, {right} stayed right, {wrong} stayed wrong."
    return f"{show} of {len(pairs)}, not at random: {picked}. {changed}"


def kind_of(pair: Pair) -> str:
    """`gained`, `lost`, `right` throughout or `wrong` throughout."""
    earlier, later = (row.get("verdict") == "right" for row in pair)
    return {(False, True): "gained", (True, False): "lost", (True, True): "right", (False, False): "wrong"}[earlier, later]


def _preference(pair: Pair) -> int:
    return ("gained", "lost", "wrong", "right").index(kind_of(pair))


def _question(row: Record) -> Text:
    question, answer = clean(shortened(row.get("question", ""))), clean(row.get("answer"))
    return Text(question).append("\n\nanswer: ", style="dim").append(answer, style="bold")


def _answer(row: Record) -> Text:
    verdict = row.get("verdict")
    sign, colour = {None: ("", "dim"), "right": ("✓ ", "green")}.get(verdict, ("✗ ", "red"))
    mark = Text(f"{sign}{clean(verdict or 'not judged')}", style=colour)
    if row.get("truncated"):
        mark.append("  (truncated)", style="yellow")
    for each in said(row):
        mark.append(f"\n{clean(each.by)}: " if each.by else "\n", style="dim").append(clean(each.text), style="default")
    return mark
