"""Countdown: reach a target from some numbers. In one expression (`countdown`), or by moves, one operation at a time (`moves`).

The hard idea: a problem is made backwards from a solution, so there always is one, but it is not the reference: any expression is right
that has the target's value and uses each number at most once. So the reference says target and numbers.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Mapping, Sequence

from heron.data.tasks.task import Lesson, Problem
from heron.types import Tags

COUNTS = (2, 3, 3, 4, 5)
"""Numbers by difficulty."""
LARGEST = (9, 9, 25, 25, 50)
"""Number by difficulty."""
HIGHEST = 999
"""Value in between."""
OPERATORS: Mapping[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}
MOVE = re.compile(r"\s*(\d{1,6})\s*([-+*/])\s*(\d{1,6})\s*", re.ASCII)


def countdown(draw: random.Random, difficulty: int) -> Problem:
    """One expression."""
    numbers, target, _, expression = _made(draw, difficulty)
    listed = ", ".join(map(str, numbers))
    return Problem(
        question=f"Make {target} from {listed} with + - * / and brackets. Use each number at most once.",
        answer=f"{target} from {' '.join(map(str, numbers))}", solution=expression,
        columns={"numbers": list(numbers), "target": target}, same_as=_sorted(numbers, target),
    )


def moves(draw: random.Random, difficulty: int) -> Problem:
    """One operation a turn, on two of the numbers that are left."""
    numbers, target, steps, _ = _made(draw, difficulty)
    listed = " ".join(map(str, numbers))
    return Problem(
        question=f"Make {target} from {listed}. One move, such as 2 + 3, puts its result in the place of two numbers.", answer=str(target),
        solution="; ".join(steps), columns={"numbers": list(numbers), "target": target}, same_as=_sorted(numbers, target),
    )


def after_move(numbers: Sequence[int], text: str) -> tuple[int, ...] | None:
    """The numbers that are left after a move; None for one that cannot be made (results are whole and above 0)."""
    match = MOVE.fullmatch(text)
    if match is None:
        return None
    left, sign, right = int(match[1]), match[2], int(match[3])
    rest = list(numbers)
    for used in (left, right):
        if used not in rest:
            return None
        rest.remove(used)
    value = _value(left, sign, right)
    return None if value is None else (*rest, value)


def shown(numbers: Sequence[int]) -> str:
    """What the game answers to a move."""
    return f"left: {' '.join(map(str, numbers))}"


def play(problem: Problem, draw: random.Random, tags: Tags, *, mistakes: float) -> Lesson:
    """The moves of the solution; at each turn with probability `mistakes` any other move instead, after which all are."""
    numbers: tuple[int, ...] = tuple(problem.columns["numbers"])
    planned = problem.solution.split("; ")
    turns: list[tuple[str, str]] = []
    while True:
        if draw.random() < mistakes or not planned:
            planned, move = [], draw.choice(_possible(numbers))
        else:
            move = planned.pop(0)
        left = after_move(numbers, move)
        assert left is not None, "only moves that can be made are drawn"
        numbers = left
        turns.append((f"{tags.solution_start}{move}{tags.solution_end}", shown(numbers)))
        if len(numbers) == 1 or int(problem.answer) in numbers:
            return Lesson(turns=tuple(turns[:-1]), completion=turns[-1][0])


def _made(draw: random.Random, difficulty: int) -> tuple[tuple[int, ...], int, list[str], str]:
    """Numbers, target, the moves to it, and the same as one expression."""
    numbers = tuple(draw.randint(1, LARGEST[difficulty - 1]) for _ in range(COUNTS[difficulty - 1]))
    left: list[tuple[int, str]] = [(number, str(number)) for number in numbers]
    steps: list[str] = []
    while len(left) > 1:
        (a, first), (b, second) = left.pop(draw.randrange(len(left))), left.pop(draw.randrange(len(left)))
        values = {sign: value for sign in OPERATORS if (value := _value(a, sign, b)) is not None}
        if not values:
            return _made(draw, difficulty)
        sign = draw.choice(list(values))
        value = values[sign]
        steps.append(f"{a} {sign} {b}")
        left.append((value, f"({first} {sign} {second})"))
    (target, expression), = left
    if target > HIGHEST or target in numbers:
        return _made(draw, difficulty)
    return numbers, target, steps, expression[1:-1]


def _sorted(numbers: Sequence[int], target: int) -> str:
    """Of the same numbers in any order, and the same in both tasks: who has seen the one knows the other."""
    return f"{target} from {' '.join(map(str, sorted(numbers)))}"


def _value(left: int, sign: str, right: int) -> int | None:
    """A whole number above 0 and at most HIGHEST, or None."""
    if sign == "/" and (right == 0 or left % right):
        return None
    value = OPERATORS[sign](left, right)
    return value if 0 < value <= HIGHEST else None


def _possible(numbers: Sequence[int]) -> list[str]:
    """All moves."""
    pairs = [(a, b) for place, a in enumerate(numbers) for other, b in enumerate(numbers) if place != other]
    return [f"{a} {sign} {b}" for a, b in pairs for sign in OPERATORS if _value(a, sign, b) is not None]
