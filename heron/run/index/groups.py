"""Pages of groups: filtered, searched, in order.

The one hard idea: no page is found by looking at groups. Each filter has an index of its own that counts and orders, and the search
knows the filters as words; so the millionth rollout costs what the first one does.

The search finds groups that hold all its words, in the question, the reference answer or what the siblings wrote; `word*` finds words that
begin so. Where SQLite has no FTS5, it finds its text in the question or the reference answer only, and `Page.searched` says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from heron.errors import RunError, did_you_mean
from heron.run.index.rollouts import PLACES, group_id, mark_word
from heron.run.index.store import MARKS, Store

FILTERS = ("all", *MARKS, "highest", "lowest")
"""Of a mark: groups of which it is true, for at least one sibling. `highest` and `lowest` are all groups, in the order of their mean
reward."""
ORDERS = ("step", "oldest")
"""The newest first, or the oldest. Within a step, by place."""
PREFIX = 3
"""Letters that the beginning of a word needs, to be searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """One rollout of a group, without its texts."""

    reward: float | None
    """In total."""
    advantage: float | None
    """Within its group."""
    verdict: str | None
    """`right`, `wrong`, `unreadable`, or None where that is not known."""
    length: int | None
    """In tokens."""
    finish_reason: str | None
    """Why it ended: `stop`, or `length` if it was cut off."""
    is_error: bool
    """Whether it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCard:
    """One group as a list shows it."""

    step: int
    """In which it was trained."""
    group: int
    """Its place there."""
    prompt: str
    """The prompt's id."""
    question: str
    """What was asked."""
    answer: str
    """The reference."""
    siblings: tuple[Sibling, ...]
    """In the order of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of what was found."""

    total: int
    """How many groups there are."""
    groups: tuple[GroupCard, ...]
    """Those of this page."""
    searched: str
    """Where the search looked: `answers` if also in what the siblings wrote, `questions` if not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which groups are wanted."""

    step: int | None = None
    """Of one step only."""
    filter: str = "all"
    """One of `FILTERS`."""
    search: str = ""
    """Words."""
    prompt: str | None = None
    """Of one prompt only: the same question over time."""
    order: str = "step"
    """One of `ORDERS`."""


def find(store: Store, query: Query, *, limit: int, offset: int) -> Page:
    """The groups from number `offset` on, at most `limit`."""
    _check("filter", query.filter, FILTERS)
    _check("order", query.order, ORDERS)
    where, values = _conditions(store, query)
    ((total,),) = store.rows(f"SELECT count(*) FROM groups{where}", *values)
    found = store.rows(f"SELECT id FROM groups{where} ORDER BY {_order(query)} LIMIT ? OFFSET ?", *values, limit, offset)
    cards = tuple(_card(store, number) for (number,) in found)
    return Page(total=total, groups=cards, searched="answers" if store.has_search else "questions")


def _check(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise RunError(f"There is no {what} {given!r}; there are {', '.join(known)}.{did_you_mean(given, known)}")


def _conditions(store: Store, query: Query) -> tuple[str, list[Any]]:
    """What follows `FROM groups`, and its values."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.step is not None:
        conditions.append("id BETWEEN ? AND ?")
        values += [group_id(query.step, 0), group_id(query.step + 1, 0) - 1]
    if query.filter in MARKS:
        conditions.append(f"marks & {1 << MARKS.index(query.filter)}")
    if query.prompt is not None:
        conditions.append("prompt IN (SELECT id FROM prompts WHERE prompt = ?)")
        values.append(query.prompt)
    if query.search.strip():
        condition, searched = _search(store, query)
        conditions.append(condition)
        values += searched
    return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _search(store: Store, query: Query) -> tuple[str, list[str]]:
    if not store.has_search:
        text = re.sub(r"([%_\\])", r"\\\1", query.search.strip())
        like = "prompt IN (SELECT id FROM prompts WHERE question LIKE ? ESCAPE '\\' OR answer LIKE ? ESCAPE '\\')"
        return like, [f"%{text}%"] * 2
    words = [_word(match) for match in re.finditer(r"([^\W_]+)(\*?)", query.search)]
    mark = [f'marks : "{mark_word(query.filter)}"'] if query.filter in MARKS else []
    return "id IN (SELECT rowid FROM search WHERE search MATCH ?)", [" AND ".join([*mark, *words]) or '""']


def _word(match: re.Match[str]) -> str:
    star = "*" if match[2] and len(match[1]) >= PREFIX else ""
    return f'body : "{match[1]}"{star}'


def _order(query: Query) -> str:
    if query.filter in ("highest", "lowest"):
        return "reward DESC, id DESC" if query.filter == "highest" else "reward, id"
    return "id" if query.order == "oldest" else "id DESC"


def _card(store: Store, number: int) -> GroupCard:
    ((siblings, prompt, question, answer),) = store.rows(
        "SELECT siblings, prompts.prompt, question, answer FROM groups JOIN prompts ON prompts.id = groups.prompt WHERE groups.id = ?", number
    )
    return GroupCard(
        step=number // PLACES, group=number % PLACES, prompt=prompt, question=question, answer=answer,
        siblings=tuple(_sibling(*figures) for figures in json.loads(siblings)),
    )  # fmt: skip


def _sibling(reward: float, advantage: float, verdict: str, length: int, finish_reason: str, is_error: bool) -> Sibling:
    return Sibling(
        reward=reward, advantage=advantage, verdict=verdict, length=length, finish_reason=finish_reason, is_error=is_error
    )
