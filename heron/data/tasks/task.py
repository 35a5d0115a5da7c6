"""What a generated task is: problems without end at five difficulties, how they are judged, and how a pupil would answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

DIFFICULTIES = range(1, 6)
"""1 is the easiest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question and its reference."""

    question: str
    """What is asked."""
    answer: str
    """The reference that the task's verifier takes."""
    solution: str = ""
    """What a pupil would answer, where the reference is not an answer itself."""
    working: str = ""
    """How a pupil would get there, for demonstrations."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """More columns for rewards and environments, plain values."""
    same_as: str = ""
    """A text that it shares with the problems that differ in the order of their numbers alone, where there are such."""

    @property
    def held_out_by(self) -> str:
        """What decides whether it is held out: those that ask the same go together."""
        return self.same_as or self.question

    @property
    def answer_text(self) -> str:
        """A right answer."""
        return self.solution or self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a pupil says to a problem."""

    completion: str
    """The last answer."""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier answers, each with the reply to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A family of problems."""

    problem: Callable[[random.Random, int], Problem]
    """A problem of a difficulty."""
    verifier: str
    """Name of the verifier that judges its answers, for `evaluation.verifier`."""
    lesson: Callable[..., Lesson]
    """`(problem, draw, tags, mistakes=...)`: what a pupil says, who goes wrong with that probability."""
    environment: str = "single_turn"
    """Name of the environment that it is for."""
