"""Graders that ask a model: `score_model` (a number) and `label_model` (one of some labels), with messages of their own.

The hard idea: a file says what is asked in its own words, so only the form of the answer is ours: a JSON object, of which one sentence is
added to the first message. Rows are asked at once, since each waits for its own answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heron.errors import RewardError, RewardStop
from heron.rewards.calling import BATCH_NAMES, RowFailed
from heron.rewards.judge.asking import ask_all
from heron.rewards.judge.criteria import Unreadable, one_object
from heron.rewards.judge.scoring import Failures
from heron.rewards.judge.seat import SEAT_MARK, Seat
from heron.types import Message


class NoAnswer(RewardError):
    """The judge failed at one reply."""


def score(seat: Seat, messages: Sequence[Message], low: float, high: float) -> float:
    """The number that the judge gives, from `low` to `high`."""

    def read(text: str) -> float:
        given = _answer(text)
        if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
            raise Unreadable(f'"answer" must be a number from {low:g} to {high:g}')
        return float(given)

    return float(_asked(seat, messages, {"type": "number"}, f"a number from {low:g} to {high:g}", read))


def label(seat: Seat, messages: Sequence[Message], labels: Sequence[str]) -> str:
    """The label that the judge gives."""

    def read(text: str) -> str:
        given = _answer(text)
        if given not in labels:
            raise Unreadable(f'"answer" must be one of {", ".join(labels)}')
        return str(given)

    return str(_asked(seat, messages, {"type": "string", "enum": list(labels)}, f"one of {', '.join(map(repr, labels))}", read))


def in_batches(graded: Callable[..., float], seat: Seat) -> Callable[..., list[Any]]:
    """A function in row form, which asks the judge, in batch form: rows at once, and each that fails fails alone."""
    failures = Failures()
    asked = list(inspect.signature(graded).parameters)

    def scored(**lists: Any) -> list[Any]:
        texts = [text if isinstance(text, str) else text[-1]["content"] for text in lists["completions"]]
        columns = [name for name in lists if name not in BATCH_NAMES]

        def one(row: int) -> Any:
            item = {name: lists[name][row] for name in columns}
            try:
                return graded(completion=texts[row], tags=lists["tags"], prefilled=lists["prefilled"][row], columns=item)
            except NoAnswer as failure:
                return failure
            except RewardStop:
                raise
            except RewardError as failure:
                return RowFailed(str(failure))

        with ThreadPoolExecutor(max_workers=seat.judge.max_concurrent) as threads:
            totals = list(threads.map(one, range(len(texts))))
        failures.add([None if isinstance(total, RowFailed) else total for total in totals], seat.max_failures)
        return totals

    scored.__name__ = graded.__name__
    keep = ["completions", "tags", "prefilled", *(name for name in asked if name not in ("completion", "tags", "prefilled", "columns"))]
    scored.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in keep),
        inspect.Parameter("others", inspect.Parameter.VAR_KEYWORD),
    ])
    setattr(scored, SEAT_MARK, seat)
    return scored


def _asked(seat: Seat, messages: Sequence[Message], kind: Mapping[str, Any], words: str, read: Callable[[str], Any]) -> Any:
    schema = {
        "type": "object", "properties": {"reason": {"type": "string"}, "answer": kind}, "required": ["reason", "answer"],
        "additionalProperties": False,
    }
    form = f'\n\nAnswer with a JSON object and nothing else: {{"reason": "...", "answer": {words}}}.'
    first, *others = messages
    whole = [{**first, "content": first["content"] + form}, *others]
    (answer,) = ask_all(seat.judge, [whole], schema, read).answers
    if isinstance(answer, RewardError):
        raise NoAnswer(str(answer)) from answer
    return answer


def _answer(text: str) -> Any:
    found = one_object(text)
    if {*found} != {"reason", "answer"}:
        raise Unreadable('the keys must be exactly "reason" and "answer"')
    return found["answer"]
