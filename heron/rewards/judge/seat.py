"""Who judges is known later than what is asked: functions are named in one place, the judge in another, and a policy comes last.

The hard idea: a function that asks a judge has a `Seat`, empty at first, as an attribute; who has a config fills all of a rubric's seats
at once (`appoint`). A seat that is taken (a judge given in Python) stays taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from heron.errors import ConfigError
from heron.rewards.judge.protocol import Judge

SEAT_MARK = "heron_seat"
"""Attribute that holds the seat of a function that asks a judge."""


class Seat:
    """Where the judge of one function sits."""

    def __init__(self, judge: Judge | None = None, *, wanted: str | None = None) -> None:
        self._judge = judge
        self._wanted = wanted  # the only model that will do
        self.max_failures = 0.05

    @property
    def is_empty(self) -> bool:
        return self._judge is None

    @property
    def judge(self) -> Judge:
        """Who sits here. Raises ConfigError if nobody does."""
        if self._judge is None:
            raise ConfigError("There is no judge to ask. Set judge.name, and judge.url unless the model is a folder, or give the function "
                              "one in Python with heron.rewards.judge_reward(..., url=..., model=...).")
        return self._judge

    def take(self, judge: Judge, max_failures: float) -> None:
        if self._wanted is not None and self._wanted != judge.model:
            raise ConfigError(f"A grader asks for the model {self._wanted!r}, but judge.name is {judge.model!r}. Set it to that, or "
                              "change the grader's file.")
        self._judge, self.max_failures = judge, max_failures


def seats(functions: Iterable[Callable[..., Any]]) -> list[Seat]:
    """Of the functions that ask a judge."""
    return [seat for function in functions if (seat := getattr(function, SEAT_MARK, None)) is not None]


def appoint(functions: Iterable[Callable[..., Any]], judge: Judge, *, max_failures: float = 0.05) -> None:
    """`judge` on every empty seat."""
    for seat in seats(functions):
        if seat.is_empty:
            seat.take(judge, max_failures)
