"""The lesson `luck`: how long until a right answer is found, by waiting and by learning.

The policy decides twice, as a language model writes two tokens: what kind of thing to say, then which one. The one hard idea: what wrong
answers teach is what they differ in. If all of them are paid the same, a group of wrong answers has no signal, and the right answer is
exactly as rare as before. If a number is paid better than a word, the first decision is learnt before anyone was right, and the right
answer, which is a number too, becomes more probable *unseen*. But what has probability 0 gets no gradient from anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from heron.lessons.answers import IS_NEAR, IS_NUMBER, IS_RIGHT, RIGHT, paid, totals
from heron.lessons.descent import improved
from heron.objective import advantages

KINDS = ((RIGHT, "3", "5", "0", "17", "122"), ("A", "B", "C", "D"), ("cat", "BAHS", "maybe"), ("%$", "#", "?"))
"""What can be said: numbers, letters, words, signs. The right answer is the first of the first kind."""
RUBRICS = {"right?": (IS_RIGHT,), "number? right?": (IS_NUMBER, IS_RIGHT), "number? right? near?": (IS_NUMBER, IS_RIGHT, IS_NEAR)}
"""Reward functions by what they ask."""
RATE = 4.0
"""Learning rate of the tables."""
SURE = 0.9
"""From this probability of the right answer on, it counts as learnt."""
WAITS = 1000
"""Waits that a mean is taken of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came of one training. A try is one drawn answer."""

    found: int | None
    """The try that drew the right answer first; None: none did."""
    then: float | None
    """The right answer's probability when it was drawn first."""
    sure: int | None
    """Tries until its probability exceeded `SURE`; None: it did not."""
    end: float
    """Its probability at the end."""
    says: str
    """The most probable answer at the end."""


def learn(probability: float, functions: tuple[str, ...], *, group_size: int, steps: int, seed: int) -> Learnt:
    """Groups of answers, compared by their rewards, and a step of gradient descent after each."""
    generator, rewards, tables = torch.Generator().manual_seed(seed), _rewards(functions), start(probability)
    found, then, sure, tries = None, None, None, 0
    while sure is None and tries < steps * group_size:
        chances = tables.softmax(1)
        kinds = torch.multinomial(chances[0], group_size, replacement=True, generator=generator)  # [G]
        items = torch.multinomial(chances[1 + kinds], 1, generator=generator)[:, 0]  # [G]
        hits = ((kinds == 0) & (items == 0)).tolist()
        if found is None and any(hits):
            found, then = tries + hits.index(True) + 1, of_right(tables)
        tries += group_size
        (better,) = advantages([rewards[kinds, items].tolist()])
        tables = improved(tables, partial(_logprobs, kinds, items), [2] * group_size, better, rate=RATE)
        sure = tries if of_right(tables) > SURE else None
    return Learnt(found=found, then=then, sure=sure, end=of_right(tables), says=_likeliest(tables))


def waits(probability: float, count: int, *, seed: int) -> list[float]:
    """`count` waits for the right answer, in tries, by drawing alone."""
    if probability in (0.0, 1.0):
        return [math.inf if probability == 0 else 1.0] * count
    drawn = torch.empty(count, dtype=torch.float64)
    return drawn.geometric_(probability, generator=torch.Generator().manual_seed(seed)).tolist()


def has_signal(probability: float, group_size: int) -> float:
    """How probable a group is that holds right and wrong answers both."""
    return 1 - (1 - probability) ** group_size - probability**group_size


def start(probability: float) -> Tensor:
    """`[1 + kinds, items]` logits of the first decision, and of the second one after each.

    The right answer has the probability; numbers have a quarter, and more where it needs it; the other kinds share the rest.
    """
    numbers = 1 / len(KINDS) + (1 - 1 / len(KINDS)) * probability
    right = probability / numbers
    chances = torch.zeros(1 + len(KINDS), max(map(len, (KINDS, *KINDS))), dtype=torch.float64)
    chances[0, : len(KINDS)] = (1 - numbers) / (len(KINDS) - 1)
    chances[0, 0] = numbers
    for kind, items in enumerate(KINDS):
        chances[1 + kind, : len(items)] = 1 / len(items)
    chances[1, : len(KINDS[0])] = (1 - right) / (len(KINDS[0]) - 1)
    chances[1, 0] = right
    return chances.log()  # what cannot be said has the logit -inf


def of_right(tables: Tensor) -> float:
    """The probability of the right answer: of saying a number, times that of this one among numbers."""
    return float(tables[0].softmax(0)[0] * tables[1].softmax(0)[0])


def _rewards(functions: tuple[str, ...]) -> Tensor:
    """`[kinds, items]`"""
    found = torch.zeros(len(KINDS), max(map(len, KINDS)), dtype=torch.float64)
    for kind, items in enumerate(KINDS):
        found[kind, : len(items)] = torch.tensor(totals(paid(items, functions), functions), dtype=torch.float64)
    return found


def _logprobs(kinds: Tensor, items: Tensor, tables: Tensor) -> Tensor:
    """`[2 G]` both decisions of each answer, one behind the other."""
    where = torch.stack([torch.zeros_like(kinds), 1 + kinds], dim=1).flatten()
    return tables.log_softmax(1)[where, torch.stack([kinds, items], dim=1).flatten()]


def _likeliest(tables: Tensor) -> str:
    chances = tables.softmax(1)
    joint = {item: float(chances[0, kind] * chances[1 + kind, place]) for kind, items in enumerate(KINDS)
             for place, item in enumerate(items)}
    return max(joint, key=lambda item: joint[item])
