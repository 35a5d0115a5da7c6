"""Tasks on letters and brackets: what a tokenizer hides and a byte shows."""

from __future__ import annotations

import random
import string

from heron.data.tasks.task import Problem

LENGTHS = (3, 5, 7, 10, 14)
"""Letters, or open brackets, by difficulty."""
PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def reverse(draw: random.Random, difficulty: int) -> Problem:
    """Letters from the last to the first."""
    word = _word(draw, difficulty)
    return Problem(question=f"Reverse the letters of {word}.", answer=word[::-1], working=" ".join(word))


def sort(draw: random.Random, difficulty: int) -> Problem:
    """Letters in the order of the alphabet."""
    word = _word(draw, difficulty)
    return Problem(question=f"Sort the letters of {word} from a to z.", answer="".join(sorted(word)), working=" ".join(word))


def letter_count(draw: random.Random, difficulty: int) -> Problem:
    """How often a letter stands in a word; never 0."""
    few = draw.sample(string.ascii_lowercase, 2 + difficulty)
    word = "".join(draw.choice(few) for _ in range(LENGTHS[difficulty - 1]))
    letter = draw.choice(word)
    marks = " ".join(f"{char}{word[: place + 1].count(letter)}" if char == letter else char for place, char in enumerate(word))
    return Problem(question=f"How many times is {letter} in {word}?", answer=str(word.count(letter)), working=marks)


def brackets(draw: random.Random, difficulty: int) -> Problem:
    """What closes the brackets that are open."""
    opened: list[str] = []
    text = ""
    while len(text) < 2 * LENGTHS[difficulty - 1] or not opened:
        if opened and draw.random() < 0.4:
            text += PAIRS[opened.pop()]
        else:
            opened.append(draw.choice(list(PAIRS)))
            text += opened[-1]
    closing = "".join(PAIRS[bracket] for bracket in reversed(opened))
    return Problem(question=f"Which brackets close {text} ?", answer=closing, working=" ".join(opened))


def _word(draw: random.Random, difficulty: int) -> str:
    return "".join(draw.choice(string.ascii_lowercase) for _ in range(LENGTHS[difficulty - 1]))
