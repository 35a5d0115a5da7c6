"""What of a rollouts file goes into the index: a small row for each group, without its texts.

The one hard idea: what is true of a group are bits that an index counts by; its siblings are a line of figures; and its texts stay where
they are, found again by their offset. Only their words go along, for the search.

Left out: the middle of a long answer, whose words the search does not know.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heron.run.averages import is_finite
from heron.run.index.store import MARKS, storable
from heron.run.records import Record, parsed

WORDS_OF = 1000
"""Characters at the beginning and at the end of an answer whose words go into the search."""
VERDICTS = ("right", "wrong", "unreadable", None)
"""A length is kept as four times itself plus the place of its verdict here."""


@dataclass(slots=True, kw_only=True)
class GroupRows:
    """The lines of one group."""

    number: int
    """Its place in the step."""
    start: int
    """Where its first line begins in the file."""
    end: int
    """Where its last line ends."""
    rows: list[Record] = field(default_factory=list)
    """The lines themselves."""


def groups_of(data: bytes) -> tuple[list[GroupRows], int]:
    """The groups of a file, and how many lines are torn or spoilt."""
    groups: dict[int, GroupRows] = {}
    offset = spoilt = 0
    for line in data.splitlines(keepends=True):
        rows, bad = parsed([line], "group") if line.endswith(b"\n") else ([], 1)
        spoilt += bad
        for row in rows:
            group = groups.setdefault(row["group"], GroupRows(number=row["group"], start=offset, end=offset))
            group.rows.append(row)
            group.end = offset + len(line)
        offset += len(line)
    return list(groups.values()), spoilt


def marks_of(rows: Sequence[Record]) -> int:
    """The bits of what is true of at least one sibling; for the signal, of the group."""
    has_signal = any(row.get("advantage") for row in rows)
    verdicts = {row.get("verdict") for row in rows}
    true = {
        "all": True,
        "signal": has_signal,
        "no-signal": not has_signal,
        "truncated": any(row.get("finish_reason") == "length" for row in rows),
        "errors": any("error" in row for row in rows),
        "rewarded-but-wrong": any(row.get("verdict") in ("wrong", "unreadable") and _number(row, "reward") > 0 for row in rows),
        "right": "right" in verdicts,
        "wrong": bool(verdicts & {"wrong", "unreadable"}),
    }
    return sum(1 << bit for bit, mark in enumerate(MARKS) if true[mark])


def mean_reward(rows: Sequence[Record]) -> float:
    """Of the siblings."""
    return sum(_number(row, "reward") for row in rows) / len(rows)


def siblings_of(rows: Sequence[Record]) -> str:
    """A line of figures for each: reward, advantage, verdict, length, finish reason, whether it failed."""
    return json.dumps([
        [row.get("reward"), row.get("advantage"), row.get("verdict"), row.get("length"), row.get("finish_reason"), "error" in row]
        for row in rows
    ])  # fmt: skip


def words_of(rows: Sequence[Record]) -> str:
    """What the search looks through: question, reference answer, and what the siblings wrote, each text once."""
    texts = dict.fromkeys(_ends(_text(row, "text")) for row in rows)
    return storable("\n".join((_text(rows[0], "question"), _text(rows[0], "answer"), *texts)))


def prompt_of(rows: Sequence[Record]) -> tuple[str, str, str]:
    """Id, question and reference answer."""
    prompt, question, answer = (storable(_text(rows[0], key)) for key in ("prompt", "question", "answer"))
    return prompt, question, answer


def lengths_of(groups: Sequence[GroupRows]) -> array[int]:
    """Of every rollout, with its verdict."""
    return array("q", [int(_number(row, "length")) * 4 + _verdict(row) for group in groups for row in group.rows])


def _verdict(row: Record) -> int:
    verdict = row.get("verdict")
    return VERDICTS.index(verdict) if verdict in VERDICTS else VERDICTS.index(None)


def _ends(text: str) -> str:
    return text if len(text) <= 2 * WORDS_OF else f"{text[:WORDS_OF]} {text[-WORDS_OF:]}"


def _text(row: Record, key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _number(row: Record, key: str) -> float:
    value: Any = row.get(key)
    return value if is_finite(value) else 0.0
