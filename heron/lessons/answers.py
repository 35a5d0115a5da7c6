"""The lesson `sum`: answers to "What is 2 + 2?", and what Heron's reward functions pay for each.

The one hard idea: a reward function that pays for being right alone calls 3 and "cat" equally bad; only functions that pay for a part of
the way can tell them apart before anyone has been right. Every score here is that of a run's rubric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from heron.lessons.drawing import figure, signed, text, words
from heron.objective import advantages
from heron.rewards import Rubric, load_functions
from heron.rewards.attack import written
from heron.types import Prompt, Tags

QUESTION = "What is 2 + 2?"
RIGHT = "4"
ANSWERS = ("0", "cat", "-10", "1928", "3", "A", "B", "122", "D", "BAHS", "%$", "12.31", "4")
"""What a model may say that was never trained to answer."""
IS_RIGHT = "arithmetic.number_right"
IS_NUMBER = "arithmetic.number_found"
IS_NEAR = "proximity.distance"
FUNCTIONS = (IS_NUMBER, IS_RIGHT, IS_NEAR)
TOTALS = ((IS_RIGHT,), (IS_NUMBER, IS_RIGHT), FUNCTIONS)
"""Rubrics of one, two and three functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """An answer and its rewards."""

    answer: str
    """What was said between the tags."""
    scores: dict[str, float]
    """By reward function."""


def paid(answers: Sequence[str], functions: Sequence[str] = FUNCTIONS, *, right: str = RIGHT) -> list[Paid]:
    """What each function pays for each answer, each given in the format of the default recipe."""
    tags = Tags()
    rubric = Rubric([(each, 1.0) for name in functions for each in load_functions(name)], tags=tags)
    prompt = Prompt(id="lesson", messages=({"role": "user", "content": QUESTION},), columns={"answer": right})
    rubric.check([prompt])
    rollouts = rubric.score([written(prompt, f"{tags.solution_start}{answer}{tags.solution_end}") for answer in answers])
    return [Paid(answer=answer, scores={name: float(score) for name, score in zip(functions, rollout.rewards.values(), strict=True)
                                        if score is not None})
            for answer, rollout in zip(answers, rollouts, strict=True)]


def totals(rows: Sequence[Paid], functions: Sequence[str]) -> list[float]:
    """The sum of some of the functions' scores, for each answer."""
    return [sum(row.scores[name] for name in functions) for row in rows]


def shown(answers: Sequence[str], *, right: str = RIGHT) -> list[RenderableType]:
    """The table, and what it teaches."""
    rows = paid(answers, right=right)
    sums = totals(rows, FUNCTIONS)
    (better,) = advantages([sums])
    drawn = figure("answer", *(name.rpartition(".")[2] for name in FUNCTIONS), "sum", "advantage", title=f"{QUESTION} ({right})")
    for row, total, advantage in zip(rows, sums, better, strict=True):
        style = "bold green" if row.scores[IS_RIGHT] > 0 else ""
        drawn.add_row(words(row.answer), *map(signed, row.scores.values()), signed(total), signed(advantage), style=style)
    return [drawn, *(_levels(rows, functions) for functions in TOTALS), text(
        "Advantage: the sum, less the mean of all these answers, by their standard deviation. Above 0 an answer is made more probable, "
        "below 0 less.")]


def _levels(rows: Sequence[Paid], functions: Sequence[str]) -> RenderableType:
    """How many kinds of answers a rubric tells apart, the wrong ones among themselves too."""
    sums = totals(rows, functions)
    wrong = {total for row, total in zip(rows, sums, strict=True) if row.scores[IS_RIGHT] < 0}
    return text(f"{' + '.join(functions)}: {len(set(sums))} different sums, {len(wrong)} among the wrong answers.")
