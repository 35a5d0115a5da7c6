"""Skewed lengths: one answer in 32 is sixteen times as long as the others, and there are fewer slots than answers.

The one hard idea: an engine cannot know which answers are long, the ideal schedule can. It starts the longest first and never leaves
a slot empty; its time is computed from this engine's own: so much for each prompt, and a decode step of so many rows costs what it was
measured to cost with that many. Answers get their lengths from a counting model (`sampling_loads.save_counting`). A prompt has one
answer, since siblings that say the same would be computed once. What it leaves out: that a step grows with the length of what it
reads, which makes the ideal a little too fast.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sampling_checks import Check
from benchmarks.sampling_loads import FIRST_NUMBER, SMALL, Load, save_counting

if TYPE_CHECKING:
    from benchmarks.sampling_sides import Heron

GOAL = 1.15
SLOTS = 32
SHORT, LONG = 24, 384
STEPS = 25
"""Tokens of the answers by which a step is timed."""
END = FIRST_NUMBER + LONG
"""The number that ends every answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the engine's work costs, in seconds."""

    prompt: float
    """Computing one prompt among many, and drawing its first token."""
    steps: Mapping[int, float]
    """One decode step, by its rows."""

    def step(self, rows: int) -> float:
        """Of any number of rows: between two measured ones, what lies between."""
        known = sorted(self.steps)
        place = min(max(bisect_left(known, rows), 1), len(known) - 1)
        low, high = known[place - 1], known[place]
        share = min(max((rows - low) / (high - low), 0.0), 1.0)
        return self.steps[low] + share * (self.steps[high] - self.steps[low])


def measure(folder: Path, *, rounds: int, answers: int = 128) -> Check:
    """The least time of these rounds against the ideal schedule's."""
    from benchmarks.sampling_sides import Heron

    side = Heron(save_counting(folder, SMALL), "float32", slots=SLOTS)
    lengths = skewed(answers)
    _seconds(side, [2] * SLOTS, seed=0)
    taken, costs = [], []
    for number in range(rounds):
        costs.append(_costs(side, seed=number))
        taken.append(_seconds(side, lengths, seed=number))
    ideal = ideal_seconds(lengths, SLOTS, _least(costs))
    return Check(
        what=f"skewed lengths: {answers} answers, one in 32 of {LONG} tokens, the others of {SHORT}, {SLOTS} slots; time over ideal",
        figure=min(taken) / ideal, goal=GOAL, at_most=True,
        behind=f"{min(taken):.2f} s, ideal {ideal:.2f} s; a step takes {_list(_least(costs).steps)}",
    )


def skewed(answers: int) -> list[int]:
    """Lengths in the order of the requests: the long ones anywhere."""
    lengths = [LONG] * (answers // 32) + [SHORT] * (answers - answers // 32)
    random.Random(0).shuffle(lengths)
    return lengths


def ideal_seconds(lengths: Sequence[int], slots: int, costs: Costs) -> float:
    """Of the schedule that knows all lengths. An answer's first token comes with its prompt, each other one with a step."""
    steps = rows_of_steps([length - 1 for length in lengths], slots)
    return len(lengths) * costs.prompt + sum(costs.step(rows) for rows in steps)


def rows_of_steps(lengths: Sequence[int], slots: int) -> list[int]:
    """How many rows each step has if the longest begin first, and a slot that falls free is filled at once."""
    free = [0] * slots  # when each slot is free again
    busy: Counter[int] = Counter()
    for length in sorted(lengths, reverse=True):
        began = heapq.heappop(free)
        heapq.heappush(free, began + length)
        busy.update(range(began, began + length))
    return [busy[step] for step in range(len(busy))]


def _costs(side: Heron, seed: int) -> Costs:
    """One prompt and one step, measured on answers that are all alike."""
    first = {rows: _seconds(side, [1] * rows, seed=seed) for rows in _sizes()}
    steps = {rows: (_seconds(side, [STEPS] * rows, seed=seed) - first[rows]) / (STEPS - 1) for rows in _sizes()}
    return Costs(prompt=first[SLOTS] / SLOTS, steps=steps)


def _least(costs: Sequence[Costs]) -> Costs:
    """The least of each."""
    return Costs(
        prompt=min(one.prompt for one in costs), steps={rows: min(one.steps[rows] for one in costs) for rows in costs[0].steps}
    )


def _seconds(side: Heron, lengths: Sequence[int], seed: int) -> float:
    """To sample one answer of each of these lengths; prompts are random words and the number from which to count."""
    load = Load(name="skewed", prompts=len(lengths), siblings=1, prompt_tokens=31, max_tokens=LONG, ends=(END,))
    prompts = [
        (*words, END - length) for words, length in zip(load.draw(SMALL.vocabulary, seed), lengths, strict=True)
    ]
    sampled = side.sample(load, prompts, seed)
    if sampled.tokens != sum(lengths):
        raise RuntimeError(f"The counting model said {sampled.tokens} tokens where {sum(lengths)} were planned.")
    return sampled.cpu


def _sizes() -> list[int]:
    return [rows for rows in (1, 2, 4, 8, 16) if rows < SLOTS] + [SLOTS]


def _list(steps: Mapping[int, float]) -> str:
    return ", ".join(f"{1000 * seconds:.1f} ms with {rows}" for rows, seconds in sorted(steps.items()))
