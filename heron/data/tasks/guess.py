"""Rows of the game of guessing a number by its hints, and how sloppy players play it.

The hard idea: what is asked is the range, and the number is not shown; so a range belongs to the held-out ones or does not, whatever the
number is. A demonstration is a whole game, up to the right guess or the last turn.
"""

from __future__ import annotations

import random

from heron.data.tasks.task import Lesson, Problem
from heron.types import Tags

TURNS = (3, 4, 5, 6, 7)
"""Guesses that always suffice for who halves what is left, by difficulty."""
HIGHEST = (60, 99, 99, 99, 999)
"""Largest number by difficulty."""


def hint(secret: int | str, guess: int) -> str:
    """What the game answers to a wrong guess."""
    return "higher" if int(secret) > guess else "lower"


def problem(draw: random.Random, difficulty: int) -> Problem:
    """Two bounds and a number between them, which is neither."""
    span = 2 ** TURNS[difficulty - 1] - draw.randrange(3)
    low = draw.randint(0, HIGHEST[difficulty - 1] - span)
    return Problem(
        question=f"Guess my number between {low} and {low + span}.", answer=str(draw.randint(low + 1, low + span - 1)),
        columns={"low": low, "high": low + span},
    )


def play(problem: Problem, draw: random.Random, tags: Tags, *, mistakes: float) -> Lesson:
    """A game of a player who writes down the bounds and guesses their middle, and forgets, with probability `mistakes`, what a hint said:
    then the same bounds and the same guess come again."""
    low, high, secret = int(problem.columns["low"]), int(problem.columns["high"]), int(problem.answer)
    most = next(turns for turns in TURNS if high - low <= 2**turns)
    turns: list[tuple[str, str]] = []
    while True:
        guess = (low + high) // 2
        turns.append((_written(low, high, guess, tags), hint(secret, guess)))
        if guess == secret or len(turns) == most:
            return Lesson(turns=tuple(turns[:-1]), completion=turns[-1][0])
        if draw.random() >= mistakes:
            low, high = (guess, high) if guess < secret else (low, guess)


def _written(low: int, high: int, guess: int, tags: Tags) -> str:
    """`<reasoning>23-39</reasoning><answer>31</answer>`: a guess becomes a bound as it is, so that nothing has to be added."""
    return f"{tags.reasoning_start}{low}-{high}{tags.reasoning_end}{tags.solution_start}{guess}{tags.solution_end}"
