"""What a run that is sabotaged is told first, step by step as it goes on: what `train.strict` would stop it with.

The hard idea: the figures are those of trainings of the default recipe, thinned to what shows the fault. A consequence often shows before
it is certain what it follows from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from heron.run.alerts import History, examine

Step = Callable[[int, random.Random], Mapping[str, Any]]


def ruined(step: int, draw: random.Random) -> Mapping[str, Any]:
    """A learning rate a hundred times too large: the first optimizer steps destroy the model, which then writes without an end."""
    if step == 1:
        return {"reward": 0.28, "reward_std": 3.02, "pass@1": 0.28, "groups/with_signal": 1.0, "groups/all_right": 0.0625, "entropy": 0.107}
    lost = {"reward": -4.0, "reward_std": 0.0, "pass@1": 0.0, "groups/with_signal": 0.0, "completions/unreadable": 1.0,
            "completions/format_rate": 0.0, "completions/clipped_ratio": draw.uniform(0.97, 1.0), "entropy": draw.uniform(0.11, 0.14)}
    second = {"reward": -3.73, "reward_std": 0.77, "groups/with_signal": 0.625, "completions/clipped_ratio": 0.08, "entropy": 0.48}
    return lost if step > 2 else {**lost, **second}


def ruined_later(step: int, draw: random.Random) -> Mapping[str, Any]:
    """The same in the middle of a run, at one problem a step: it takes a while to be certain."""
    right = draw.betavariate(4, 2) if step <= 40 else 0.0
    return {"reward": right, "reward_std": 0.4 if step <= 40 else 0.0, "pass@1": right, "groups/with_signal": float(step <= 40),
            "groups/all_right": 0.0, "completions/clipped_ratio": 0.0 if step <= 40 else 1.0, "entropy": 0.1}


def tags_alone(step: int, draw: random.Random) -> Mapping[str, Any]:
    """Only the format is paid: it is learnt within ten steps, and then nothing differs any more."""
    form = min(1.0, 0.76 + 0.025 * step)
    return {"reward": form, "reward_std": max(0.0, 0.43 - 0.025 * step), "pass@1": 0.28 + draw.gauss(0, 0.05), "groups/mixed": 0.8125,
            "groups/with_signal": max(0.0, 1 - 0.0625 * step), "groups/all_right": 0.0625, "completions/format_rate": form,
            "completions/unreadable": 0.08 * (1 - form)}


def too_short(step: int, draw: random.Random) -> Mapping[str, Any]:
    """Answers that are cut off from the start; being brief is what is learnt, with ever more entropy."""
    cut = max(0.0, 0.85 - 0.08 * max(0, step - 3))
    return {"reward": -3.7 + 2.5 * (0.85 - cut), "reward_std": 0.9, "pass@1": 0.0, "groups/with_signal": 0.75, "groups/all_right": 0.0,
            "completions/clipped_ratio": cut, "completions/unreadable": cut, "completions/format_rate": 0.9 - cut,
            "entropy": min(0.9, 0.15 + 0.08 * max(0, step - 2))}


def all_alike(step: int, draw: random.Random) -> Mapping[str, Any]:
    """A reward that is the same for every answer."""
    return {"reward": 1.0, "reward_std": 0.0, "groups/with_signal": 0.0, "pass@1": 0.3, "groups/mixed": 0.8, "completions/format_rate": 0.8}


def cut_off_later(step: int, draw: random.Random) -> Mapping[str, Any]:
    """Answers that grow into the limit, while the reward stays as it was: nothing to wait for."""
    return {"reward": 0.5 + draw.gauss(0, 0.05), "reward_std": 0.5, "pass@1": 0.5, "groups/with_signal": 0.8125,
            "completions/clipped_ratio": min(0.5, 0.02 * step), "entropy": 0.3}


SABOTAGED: dict[str, tuple[Step, str, int]] = {
    "learning rate": (ruined, "reward-collapse", 6),
    "learning rate, later, one problem a step": (ruined_later, "reward-collapse", 55),
    "tags": (tags_alone, "format-only", 18),
    "too short": (too_short, "truncation", 5),
    "constant": (all_alike, "constant-reward", 5),
    "ever longer": (cut_off_later, "truncation", 20),
}
"""What happens, what is to be told first, and by when."""


@pytest.mark.parametrize("fault", SABOTAGED)
@pytest.mark.parametrize("seed", range(5))
def test_the_cause_comes_first_and_in_time(fault: str, seed: int) -> None:
    """Prevents: a run that `--strict all` stops with the advice to raise the token limit, when its learning rate was far too high."""
    made, cause, soon = SABOTAGED[fault]
    draw = random.Random(seed)
    metrics = [{"step": step, **made(step, draw)} for step in range(1, 71)]
    told = {step: found for step in range(1, 71) if (found := examine(History(metrics=metrics[:step])))}
    first = min(told)
    assert told[first][0].id == cause and first <= soon, (first, [alert.id for alert in told[first]])


def test_a_consequence_is_told_in_the_end() -> None:
    """Prevents: an alert that waits for ever for a cause that does not come."""
    def falling(step: int) -> Mapping[str, Any]:  # too little to be called a collapse
        return {"reward": 0.6 if step <= 20 else 0.3, "reward_std": 0.5, "pass@1": 0.3, "groups/with_signal": 0.75 if step <= 20 else 0.0,
                "groups/mixed": 0.75, "completions/clipped_ratio": 0.0 if step <= 20 else 0.6}

    metrics = [{"step": step, **falling(step)} for step in range(1, 61)]
    ids = [{alert.id for alert in examine(History(metrics=metrics[:step]))} for step in range(61)]
    assert {"truncation", "no-signal"} <= ids[40]
