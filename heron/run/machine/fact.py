"""What is said of a machine: facts, in groups, each in words and, where a program may want it, as data.

The one hard idea: a fact that stands in the way of a run brings its own advice, so what is wrong is the facts that have some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from heron.run.text import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that was found out."""

    group: str
    """What it belongs to, such as `packages`."""
    name: str
    """What it is about."""
    words: str
    """What was found, for a reader."""
    data: Any = None
    """The same for a program; None where the words are all there is."""
    advice: str = ""
    """What to do about it; empty where nothing is wrong."""


def as_json(facts: Iterable[Fact]) -> dict[str, Any]:
    """Groups of facts, and `problems`: those with advice."""
    told: dict[str, Any] = {}
    for fact in facts:
        told.setdefault(fact.group, {})[fact.name] = {"words": fact.words, **({} if fact.data is None else {"data": fact.data})}
    problems = [{"group": fact.group, "name": fact.name, "words": fact.words, "advice": fact.advice} for fact in facts if fact.advice]
    return {**told, "problems": problems}


def as_lines(facts: Iterable[Fact]) -> list[str]:
    """Plain text to read or to paste: a heading for each group, and what is to be done at the end."""
    known = list(facts)
    width = max((len(fact.name) for fact in known), default=0)
    lines: list[str] = []
    for group in dict.fromkeys(fact.group for fact in known):
        lines += ["", group] if lines else [group]
        lines += [_line(fact, width) for fact in known if fact.group == group]
    problems = [fact for fact in known if fact.advice]
    lines += ["", "to look at" if problems else "Nothing stands in the way of a run."]
    return lines + [clean(f"! {fact.name}: {fact.words}\n  {fact.advice}") for fact in problems]


def _line(fact: Fact, width: int) -> str:
    mark = "!" if fact.advice else " "
    return clean(f"{mark} {fact.name:{width}}  {fact.words}").replace("\n", " ")
