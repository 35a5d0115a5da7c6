"""Questions with the answers before and after, side by side: what was learnt, and what still goes wrong.

The one hard idea: to show is to choose, so the choice is told: which kinds of answers there are, how many of each, and that those shown
were not drawn at random. Failures have a section of their own, so that a page of successes cannot hide them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heron.run.conversation import said, shortened
from heron.run.handout.html import Html, element
from heron.run.reader import Run
from heron.run.report import Pair, choice, choose, kind_of
from heron.run.text import count

SHOWN = 3
"""Problems in each section."""


def samples(run: Run) -> Html | None:
    """The same question before and after; those that turned right first."""
    pairs = _pairs(run)
    if not pairs:
        return None
    shown = [pair for pair in pairs if kind_of(pair) in ("gained", "right")][:SHOWN] or pairs[:SHOWN]
    return element(
        "section", element("h2", "The same question, before and after"), *map(_side_by_side, shown),
        element("p", choice(pairs, len(shown)), class_="soft") if _is_judged(pairs) else None,
    )


def failures(run: Run) -> Html | None:
    """What it still gets wrong, and above all what it could do before."""
    pairs = _pairs(run)
    wrong = [pair for pair in pairs if kind_of(pair) in ("lost", "wrong")]
    if not _is_judged(pairs):
        return None
    lost = sum(kind_of(pair) == "lost" for pair in wrong)
    told = (
        f"{count(len(wrong))} of {count(len(pairs))} held-out problems are still not solved; {count(lost)} of them had been solved before."
        if wrong else f"None: all {count(len(pairs))} held-out problems were solved."
    )
    return element("section", element("h2", "Where it fails"), element("p", told), *map(_side_by_side, wrong[:SHOWN]))


def _is_judged(pairs: Sequence[Pair]) -> bool:
    """Whether anything says what is right."""
    return any(after.get("verdict") is not None for _, after in pairs)


def _pairs(run: Run) -> list[Pair]:
    known = run.evaluations()
    if "before" not in known or "after" not in known:
        return []
    before, after = run.evaluation("before"), run.evaluation("after")
    return choose(before.rows, after.rows, len(after.rows))


def _side_by_side(pair: Pair) -> Html:
    before, after = pair
    gold = after.get("answer")
    return element(
        "article",
        element("p", shortened(after.get("question", "")), class_="question"),
        element("p", "right answer: ", element("b", gold), class_="soft") if gold not in (None, "") else None,
        element("div", _answer("before", before), _answer("after", after), class_="pair"),
    )


def _answer(name: str, row: Mapping[str, Any]) -> Html:
    return element(
        "div",
        element("p", f"{name} ", _mark(row.get("verdict")), " · cut off" if row.get("truncated") else None, class_="label"),
        *(element("pre", element("span", f"{each.by}: ", class_="soft") if each.by else None, each.text) for each in said(row)),
    )


def _mark(verdict: str | None) -> Html:
    if verdict is None:
        return element("span", "not judged")
    return element("span", "✓ right", class_="good") if verdict == "right" else element("span", f"✗ {verdict}", class_="bad")

