"""How a sloppy pupil answers a question with one answer."""

from __future__ import annotations

import random
import string

from heron.data.tasks.task import Lesson, Problem
from heron.types import Tags

KINDS = (string.digits, string.ascii_lowercase, "()[]{}<>")
"""A wrong character is one of the same kind."""


def answer(problem: Problem, draw: random.Random, tags: Tags, *, mistakes: float) -> Lesson:
    """The working and the answer between their tags; the answer has a wrong character with probability `mistakes`."""
    said = spoiled(problem.answer_text, draw) if draw.random() < mistakes else problem.answer_text
    return Lesson(completion=f"{tags.reasoning_start}{problem.working}{tags.reasoning_end}{tags.solution_start}{said}{tags.solution_end}")


def spoiled(text: str, draw: random.Random) -> str:
    """The text with one digit, letter or bracket changed into another."""
    places = [place for place, char in enumerate(text) if _kind(char)]
    place = draw.choice(places)
    other = draw.choice([char for char in _kind(text[place]) if char != text[place]])
    return text[:place] + other + text[place + 1 :]


def _kind(char: str) -> str:
    """The characters of its kind; none for a sign or a space."""
    return next((kind for kind in KINDS if char in kind), "")
