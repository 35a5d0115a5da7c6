"""Tasks on numbers: chains of sums, decimals to compare, remainders, sequences to continue."""

from __future__ import annotations

import itertools
import random

from heron.data.tasks.task import Problem


def chain_sum(draw: random.Random, difficulty: int) -> Problem:
    """Two to six numbers, added and taken away; the sum so far is the working."""
    numbers = [draw.randint(1, (9, 20, 50, 99, 999)[difficulty - 1]) for _ in range(difficulty + 1)]
    signed = [numbers[0], *(number * draw.choice((1, -1)) for number in numbers[1:])]
    sums = list(itertools.accumulate(signed))
    chain = str(signed[0]) + "".join(f" {'+' if number > 0 else '-'} {abs(number)}" for number in signed[1:])
    return Problem(
        question=f"What is {chain}?", answer=str(sums[-1]), working=", ".join(map(str, sums[1:])),
        same_as=f"sum of {' '.join(map(str, sorted(signed)))}",
    )


def decimals(draw: random.Random, difficulty: int) -> Problem:
    """Which of two decimals is larger; at every difficulty one has more digits than the other half of the time."""
    whole = draw.randint(0, 10**difficulty)
    places = sorted(draw.sample(range(1, difficulty + 3), 2)) if draw.random() < 0.5 else [difficulty] * 2
    first, second = (f"{whole}.{_fraction(draw, count)}" for count in places)
    if draw.random() < 0.5:
        first, second = second, first
    width = max(places)
    padded = [text.ljust(len(str(whole)) + 1 + width, "0") for text in (first, second)]
    if padded[0] == padded[1]:
        return decimals(draw, difficulty)
    larger = first if padded[0] > padded[1] else second
    return Problem(
        question=f"Which is larger, {first} or {second}?", answer=larger, working=f"{padded[0]} {padded[1]}",
        same_as=f"larger of {' '.join(sorted((first, second)))}",
    )


def remainder(draw: random.Random, difficulty: int) -> Problem:
    """What a division leaves."""
    by = draw.randint(2, 9 if difficulty < 4 else 99)
    number = draw.randint(by, 10 ** (difficulty + 1))
    return Problem(question=f"What is the remainder of {number} divided by {by}?", answer=str(number % by), working=f"{number // by * by}")


def sequence(draw: random.Random, difficulty: int) -> Problem:
    """The number that continues a sequence whose steps are equal, or from difficulty 4 on grow by the same each time."""
    step, growth = draw.randint(1, 5 * difficulty), draw.randint(1, difficulty) if difficulty > 3 else 0
    start = draw.randint(0, 10**difficulty)
    terms = [start + step * place + growth * place * (place - 1) // 2 for place in range(6)]
    shown = ", ".join(map(str, terms[:-1]))
    return Problem(question=f"What comes next: {shown}?", answer=str(terms[-1]), working=f"+{terms[-1] - terms[-2]}")


def _fraction(draw: random.Random, places: int) -> str:
    """Digits behind the point, the last of them not 0."""
    return "".join(str(draw.randint(0, 9)) for _ in range(places - 1)) + str(draw.randint(1, 9))
