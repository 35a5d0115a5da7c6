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
from heron.run.index.rollouts import PLACES, group_id, mark_word, prompt_word
from heron.run.index.store import MARKS, Store, storable

BY_REWARD = {"highest": "reward DESC, rowid DESC", "lowest": "reward, rowid"}
"""All groups, in the order of their mean reward."""
FILTERS = (*MARKS, *BY_REWARD)
"""A mark's are the groups of which it is true, for at least one sibling."""
ORDERS = ("step", "oldest")
"""The newest first, or the oldest. Within a step, by place."""
PREFIX = 3
"""Letters that the beginning of a word needs, to be searched for."""
MANY = 5000
"""Found groups from which on it is quicker to walk all in order than to sort the found ones."""
CARD = "SELECT siblings, prompts.prompt, question, answer FROM groups JOIN prompts ON prompts.id = groups.prompt WHERE groups.id = ?"
IN_STEP = "rowid BETWEEN ? AND ?"
NOTHING = "nothing"
"""A mark that no group bears."""


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
    """Why it ended: `stop`, or `length` if it was cut off, or ended for want of room for another turn."""
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
    with store.snapshot():
        return _found(store, query, limit, offset)


def _found(store: Store, query: Query, limit: int, offset: int) -> Page:
    is_searched = bool(_text(query)) and store.has_search
    source, values = _searched(store, query) if is_searched else _filtered(query)
    ((total,),) = store.rows(f"SELECT count(*) FROM {source}", *values)
    if is_searched and query.filter in BY_REWARD:
        walk = "INDEXED BY groups_by_reward " if total > MANY else ""
        source = f"groups {walk}WHERE rowid IN (SELECT rowid FROM {source})"
    found = _slice(store, f"SELECT rowid FROM {source}", values, _order(query), total=total, limit=limit, offset=offset)
    cards = tuple(_card(store, number) for number in found)
    return Page(total=total, groups=cards, searched="answers" if store.has_search else "questions")


def _check(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise RunError(f"There is no {what} {given!r}; there are {', '.join(known)}.{did_you_mean(given, known)}")


def _filtered(query: Query) -> tuple[str, list[Any]]:
    """Table and conditions, with their values. The plus keeps SQLite from a mark's index where another one serves better."""
    has_better = query.step is not None or query.prompt is not None
    conditions = ["TRUE" if query.filter in BY_REWARD else f"{'+' if has_better else ''}marks & {1 << MARKS.index(query.filter)}"]
    values: list[Any] = []
    if query.step is not None:
        conditions.append(IN_STEP)
        values += _step(query.step)
    if query.prompt is not None:
        conditions.append("prompt IN (SELECT id FROM prompts WHERE prompt = ?)")
        values.append(storable(query.prompt))
    if _text(query):
        conditions.append("prompt IN (SELECT id FROM prompts WHERE question LIKE ? ESCAPE '!' OR answer LIKE ? ESCAPE '!')")
        values += [_like(_text(query))] * 2
    return f"groups WHERE {' AND '.join(conditions)}", values


def _searched(store: Store, query: Query) -> tuple[str, list[Any]]:
    """The same, where the search knows everything that is asked for as a word."""
    words = [_word(match) for match in re.finditer(r"([^\W_]+)(\*?)", _text(query))]
    wanted = [f'marks : "{mark_word(_mark(query))}"']
    if query.prompt is not None:
        numbers = store.rows("SELECT id FROM prompts WHERE prompt = ?", storable(query.prompt))
        wanted.append(f"marks : ({' OR '.join(prompt_word(number) for (number,) in numbers) or NOTHING})")
    match = " AND ".join([*wanted, *(words or [f"marks : {NOTHING}"])])
    if query.step is None:
        return "search WHERE search MATCH ?", [match]
    return f"search WHERE search MATCH ? AND {IN_STEP}", [match, *_step(query.step)]


def _word(match: re.Match[str]) -> str:
    star = "*" if match[2] and len(match[1]) >= PREFIX else ""
    return f'body : "{match[1]}"{star}'


def _text(query: Query) -> str:
    """What is searched for; SQLite ends a text at a NUL."""
    return storable(query.search).replace("\0", " ").strip()


def _like(text: str) -> str:
    """Anything that holds the text."""
    return "%" + re.sub(r"([%_!])", r"!\1", text) + "%"


def _mark(query: Query) -> str:
    return "all" if query.filter in BY_REWARD else query.filter


def _step(step: int) -> list[int]:
    return [group_id(step, 0), group_id(step + 1, 0) - 1]


def _order(query: Query) -> tuple[str, str]:
    """What to order by, and its reverse."""
    if query.filter in BY_REWARD:
        return BY_REWARD[query.filter], next(other for name, other in BY_REWARD.items() if name != query.filter)
    return ("rowid", "rowid DESC") if query.order == "oldest" else ("rowid DESC", "rowid")


def _slice(store: Store, sql: str, values: list[Any], order: tuple[str, str], *, total: int, limit: int, offset: int) -> list[int]:
    """Some of the rows. Those of the second half are counted from the end: SQLite walks through all that it skips."""
    limit = max(0, min(limit, total - offset))
    is_near_end = offset > total // 2
    skipped = total - offset - limit if is_near_end else offset
    rows = store.rows(f"{sql} ORDER BY {order[is_near_end]} LIMIT ? OFFSET ?", *values, limit, skipped)
    return [number for (number,) in (reversed(rows) if is_near_end else rows)]


def _card(store: Store, number: int) -> GroupCard:
    ((siblings, prompt, question, answer),) = store.rows(CARD, number)
    return GroupCard(
        step=number // PLACES, group=number % PLACES, prompt=prompt, question=question, answer=answer,
        siblings=tuple(_sibling(*figures) for figures in json.loads(siblings)),
    )  # fmt: skip


def _sibling(reward: float, advantage: float, verdict: str, length: int, finish_reason: str, is_error: bool) -> Sibling:
    return Sibling(
        reward=reward, advantage=advantage, verdict=verdict, length=length, finish_reason=finish_reason, is_error=is_error
    )
