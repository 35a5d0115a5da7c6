"""A collapse of the reward is told soon, and never of a run that only has bad luck.

The hard idea: both are questions of chance, so they are put to many made-up runs, from a fixed seed: problems of every difficulty, so many
in a step, each answered eight times, right or wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from statistics import fmean, stdev
from typing import Any

import pytest

from heron.run.alerts import History, examine
from heron.run.alerts.course import Course
from heron.run.alerts.policy import reward_collapse

SIBLINGS = 8
RUNS = 60

Chance = Callable[[float, int], float]
"""How likely a right answer is, from a problem's ease and the step."""


def simulated(
    draw: random.Random, prompts: int, steps: int, chance: Chance, ease: tuple[float, float] = (0.7, 0.7)
) -> Iterator[dict[str, Any]]:
    for step in range(1, steps + 1):
        groups = [_group(draw, chance(draw.betavariate(*ease), step)) for _ in range(prompts)]
        answers = [answer for group in groups for answer in group]
        yield {
            "step": step, "reward": fmean(answers), "reward_std": stdev(answers), "pass@1": fmean(answers),
            "groups/with_signal": fmean(len(set(group)) > 1 for group in groups),
            "groups/all_right": fmean(min(group) == 1 for group in groups),
        }  # fmt: skip


def _group(draw: random.Random, chance: float) -> list[float]:
    return [float(draw.random() < chance) for _ in range(SIBLINGS)]


def told_at(records: Iterator[dict[str, Any]]) -> int | None:
    """The step after which the alert comes."""
    course = Course()
    for record in records:
        course.add(record)
        if reward_collapse(History(metrics=[record], course=course)) is not None:
            return int(record["step"])
    return None


CASES: dict[str, tuple[Chance, tuple[float, float]]] = {
    "learns": (lambda ease, step: min(1.0, 0.8 * ease + 0.003 * step), (0.7, 0.7)),
    "stays": (lambda ease, step: ease, (0.7, 0.7)),
    "is hard": (lambda ease, step: ease, (0.1, 0.9)),
    "is easy": (lambda ease, step: ease, (0.9, 0.2)),
}


@pytest.mark.parametrize("prompts", [1, 2, 4, 8])
@pytest.mark.parametrize("case", CASES)
def test_bad_luck_is_no_collapse(case: str, prompts: int) -> None:
    """Prevents: a warning in a quarter of the healthy runs that have one problem a step."""
    chance, ease = CASES[case]
    draw = random.Random(f"{case} {prompts}")
    assert [told_at(simulated(draw, prompts, 100, chance, ease)) for _ in range(RUNS)] == [None] * RUNS


@pytest.mark.parametrize(("prompts", "soon"), [(1, 20), (2, 15), (4, 8), (16, 5)])
def test_what_was_learnt_and_is_lost_is_told_soon(prompts: int, soon: int) -> None:
    """Prevents: a run that rises from a tenth to nine tenths, falls apart, and is not even below its start."""
    draw = random.Random(prompts)
    falls = [told_at(simulated(draw, prompts, 120, lambda ease, step: min(1.0, 0.2 * ease + 0.013 * step) if step <= 60 else 0.12 * ease))
             for _ in range(RUNS // 3)]
    late = sorted(step - 60 if step is not None else 999 for step in falls)
    assert late[0] > 0 and late[len(late) // 2] <= soon and late[-1] <= soon + 15, late


def test_a_rise_and_a_fall_without_noise() -> None:
    rewards = [0.1 + 0.8 * step / 60 for step in range(60)] + [0.12] * 20
    metrics = [{"step": step, "reward": reward, "reward_std": 0.3, "pass@1": reward, "groups/with_signal": 0.5}
               for step, reward in enumerate(rewards, start=1)]
    told = next(step for step in range(61, 81) if reward_collapse(History(metrics=metrics[:step])))
    assert told <= 70
    alert = reward_collapse(History(metrics=metrics))
    assert alert is not None and "0.89 in step 60" not in alert.evidence and "in steps 56 to 60" in alert.evidence, alert


def test_nine_right_of_ten_after_ten_of_ten_is_none() -> None:
    """Prevents: a model that has mastered the task and is told that it was destroyed, for three wrong answers in a hundred."""
    metrics = [{"step": step, "reward": 1.0 if step == 1 else 0.97 + 0.001 * (step % 3), "reward_std": 0.0 if step == 1 else 0.15,
                "pass@1": 0.97, "groups/all_right": 0.9} for step in range(1, 41)]
    assert [examine(History(metrics=metrics[:step])) for step in range(41)] == [()] * 41


def test_a_single_good_step_is_no_best_where_a_step_is_one_problem() -> None:
    """Prevents: an easy problem at the start, after which every other looks like a ruin."""
    metrics = [{"step": step, "reward": 1.0 if step == 1 else 0.0, "reward_std": 0.0, "groups/with_signal": 0.0} for step in range(1, 60)]
    assert not any(reward_collapse(History(metrics=metrics[:step])) for step in range(60))


def test_portions_of_groups_do_not_count_as_many() -> None:
    """With rollout.partial_tokens a step may complete sixteen groups and the next one a single one."""
    draw = random.Random(0)
    many, one = simulated(draw, 16, 50, CASES["stays"][0]), simulated(draw, 1, 50, CASES["stays"][0])
    mixed = ({**record, "groups/carried": 3} for pair in zip(many, one, strict=True) for record in pair)
    assert told_at(mixed) is None
