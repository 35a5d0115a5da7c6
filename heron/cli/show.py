"""What the verbs print: small tables from plain values. Texts from models are cleaned before they reach the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heron.config import Recipe
from heron.rewards.attack import Attacked
from heron.run.text import clean, count, number, one_line, share, share_with_interval
from heron.types import Rollout


def print_recipes(recipes: Sequence[Recipe]) -> None:
    """Name, card and summary of each: first those that need neither a download nor a card."""
    table = _table("recipe", "card", "what it teaches")
    for needs_download in (False, True):
        for recipe in recipes:
            if recipe.needs_download is needs_download:
                table.add_row(Text(recipe.name, style="bold"), recipe.card or "none", Text(recipe.summary))
        table.add_section()
    console = Console()
    console.print(table)
    console.print("Card: the least GPU that the settings are meant for; none: a laptop will do, and nothing is downloaded.\n"
                  "Next: heron plan RECIPE --gpu CARD, heron check RECIPE, heron train RECIPE.", highlight=False)


def print_scores(names: Sequence[str], weights: Sequence[float], rollouts: Sequence[Rollout], answers: Sequence[str]) -> None:
    """A line for each answer and a column for each reward function, then the mean of each. Names fold at their words."""
    headings = [*map(_heading, names, weights), "total"]
    least = [max(len("-1.00"), *map(len, heading.split())) for heading in headings]
    ids = [_short_id(rollout, rollouts) for rollout in rollouts]
    console, table = Console(), Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False)
    room = console.width - sum(width + 2 for width in (*least, max(map(len, ("row", *ids))))) - 5
    table.add_column("row", no_wrap=True)
    table.add_column("answer", no_wrap=True, overflow="ellipsis", max_width=min(max(room, 8), 40))
    for heading, width in zip(headings, least, strict=True):
        table.add_column(heading, justify="right", width=width if room >= 8 else None)
    for label, rollout, answer in zip(ids, rollouts, answers, strict=True):
        scores = [rollout.rewards[name] for name in names]
        last = "failed" if rollout.error is not None else number(rollout.reward)
        cells = (label, one_line(answer, 40), *map(number, scores), last)
        table.add_row(*(Text(clean(cell)) for cell in cells))
    columns = [[rollout.rewards[name] for rollout in rollouts] for name in names] + [[rollout.reward for rollout in rollouts]]
    known = [[value for value in column if value is not None] for column in columns]
    table.add_section()
    table.add_row("mean", "", *(number(fmean(column)) if column else "" for column in known))
    console.print(table)


def _heading(name: str, weight: float) -> str:
    """A function's name in words, which fold, and its weight."""
    words = clean(name).replace("_", " ").replace(".", ". ")
    return words if weight == 1 else f"{words} ×{weight:g}"


def _short_id(rollout: Rollout, rollouts: Sequence[Rollout]) -> str:
    """The line alone, where all rows are of one file."""
    file, _, line = rollout.prompt.id.rpartition(":")
    return line if all(other.prompt.id.rpartition(":")[0] == file for other in rollouts) else rollout.prompt.id


def print_attacks(found: Sequence[Attacked]) -> None:
    """A line for each attack with the rows that fell for it, and a column for each function; `-` where it cannot tell right from wrong."""
    table = _table("attack", *(clean(one.name) for one in found))
    for name in found[0].accepted:
        table.add_row(name, *(f"{one.accepted[name]} of {one.rows}" if one.rows else "-" for one in found))
    table.add_section()
    table.add_row("paid as if right", *(share(one.share) if one.rows else "-" for one in found))
    table.add_row("could not be scored", *(count(one.failed) for one in found))
    Console().print(table)


def print_totals(name: str, totals: Mapping[str, Any]) -> None:
    """One evaluation."""
    table = _table("held-out problems", name)
    for label, value in (
        ("accuracy (greedy)", share_with_interval(totals, "accuracy")), ("pass@1 (sampled)", share_with_interval(totals, "pass_at_1")),
        ("in the asked format", share(totals.get("format_rate"))), ("no readable answer", share(totals.get("unreadable"))),
        ("truncated", share(totals.get("truncated"))),
        ("mean reward", number(totals.get("mean_reward"))), ("mean length, tokens", number(totals.get("mean_length"), 1)),
        ("problems", count(totals.get("problems"))),
    ):
        table.add_row(label, value)
    Console().print(table)


def print_answer(name: str, answer: str) -> None:
    """One answer of one model."""
    Console().print(Panel(Text(clean(answer)), title=name, title_align="left", border_style="green" if name == "trained" else "dim"))


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
