"""How the lesson `luck` is shown: one probability in full, or several, a row each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from rich.console import RenderableType
from rich.text import Text

from heron.lessons.drawing import figure, rare, text
from heron.lessons.luck import RUBRICS, SURE, WAITS, Learnt, has_signal, learn, waits
from heron.run.text import count, share

NEVER = "never"
LEGEND = f"found: the try that drew the right answer first. learnt: tries until its chance was above {100 * SURE:.0f} %."
LIKELY = 0.95


def shown(probabilities: Sequence[float], *, group_size: int, steps: int, seed: int) -> list[RenderableType]:
    """One probability: waiting and each rubric. Several: a row for each."""
    given = {"group_size": group_size, "steps": steps, "seed": seed}
    return _one(probabilities[0], **given) if len(probabilities) == 1 else _sweep(probabilities, **given)


def _one(probability: float, *, group_size: int, steps: int, seed: int) -> list[RenderableType]:
    drawn = figure("what is paid for", "first found", "chance then", "learnt", "chance at the end", "says mostly")
    for name, functions in RUBRICS.items():
        learnt = learn(probability, functions, group_size=group_size, steps=steps, seed=seed)
        drawn.add_row(name, _try(learnt.found), "-" if learnt.then is None else rare(learnt.then), _try(learnt.sure), rare(learnt.end),
                      Text(learnt.says))
    signal = has_signal(probability, group_size)
    return [
        *map(text, _waiting(probability, seed)),
        text(f"\nLearning, in groups of {group_size}, for at most {count(steps)} steps ({count(steps * group_size)} tries). "
             f"{share(signal)} of the first groups hold a right answer beside wrong ones.", "bold"),
        drawn, text(LEGEND, "dim"), *map(text, _why(probability)),
    ]


def _waiting(probability: float, seed: int) -> list[str]:
    if probability == 0:
        return ["Waiting: the right answer has probability 0. No number of tries brings it."]
    tries = waits(probability, WAITS, seed=seed)
    if probability == 1:
        return ["Waiting: the right answer has probability 1. The first try brings it."]
    likely = math.ceil(math.log(1 - LIKELY) / math.log1p(-probability))
    return [
        f"Waiting, and learning nothing: 1 / {rare(probability)} = {count(1 / probability)} tries in the mean; in {count(WAITS)} waits it "
        f"was {count(fmean(tries))}, and the longest took {count(max(tries))}.",
        f"{100 * LIKELY:.0f} % of all waits are over after {count(likely)} tries. No number of tries makes it certain.",
    ]


def _why(probability: float) -> list[str]:
    if probability == 0:
        return ["Probability 0 stays 0, whatever is paid: the answer is never drawn, so never rewarded, and its weight has no gradient. A "
                "number is said more often, but never this one. Show the model what a right answer looks like first (a warm-up)."]
    return [
        "right? Until the first right answer all siblings are paid the same, so nothing moves, and luck is all there is.",
        "number? right? Words sink before anything right was seen; so the right answer, which is a number too, rises unseen.",
        "number? right? near? 3 is paid better than 17. If 4 is rare, the policy may settle on 3 and stop looking.",
    ]


def _sweep(probabilities: Sequence[float], *, group_size: int, steps: int, seed: int) -> list[RenderableType]:
    first, second, _ = RUBRICS
    drawn = figure("chance", "waiting", "signal", *(f"{name} {what}" for name in (first, second) for what in ("found", "learnt")))
    for probability in probabilities:
        both = [learn(probability, RUBRICS[name], group_size=group_size, steps=steps, seed=seed) for name in (first, second)]
        drawn.add_row(rare(probability), count(1 / probability) if probability else NEVER, share(has_signal(probability, group_size)),
                      *(cell for learnt in both for cell in _cells(learnt)))
    return [
        drawn, text(LEGEND, "dim"),
        text("waiting: 1 / chance, the mean number of tries without learning. signal: share of the first groups that hold right and wrong "
             "answers both.", "dim"),
        text(f"{NEVER}: not within {count(steps * group_size)} tries ({count(steps)} steps of {group_size}); with chance 0 not at all."),
    ]


def _cells(learnt: Learnt) -> tuple[str, str]:
    return _try(learnt.found), _try(learnt.sure)


def _try(tries: int | None) -> str:
    return NEVER if tries is None else count(tries)
