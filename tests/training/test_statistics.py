"""Numbers about rollouts and intervals, against values worked out by hand or known from the literature."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from tinymodels import completion, prompt

from heron.training.outcomes import duplicates, solved
from heron.training.statistics import rollout_metrics, wilson
from heron.training.timing import StepClock, peak_gib
from heron.types import Group, Rollout, Turn


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (10, 10, 0.7225, 1.0)],
)
def test_wilson_equals_newcombes_table(right: int, trials: int, low: float, high: float) -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(right, trials) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_wilson_stays_inside_and_covers() -> None:
    """Prevents: intervals of width 0 at 0 % and 100 %, and bounds outside [0, 1]."""
    assert wilson(0, 0) == (0.0, 1.0)
    for trials in (1, 5, 100):
        for right in range(trials + 1):
            low, high = wilson(right, trials)
            assert 0.0 <= low <= right / trials + 1e-12
            assert right / trials - 1e-12 <= high <= 1.0
            assert low < high
    draw = random.Random(0)
    covered = 0
    for _ in range(1000):
        low, high = wilson(sum(draw.random() < 0.3 for _ in range(60)), 60)
        covered += low <= 0.3 <= high
    assert 930 < covered < 975


def test_interval_of_a_mean_of_rates_covers_and_counts_problems() -> None:
    """Prevents: samples of one problem counted as independent, which makes the interval far too narrow."""
    assert wilson(1.5, 3) == wilson(0.5 * 3, 3)
    draw = random.Random(1)
    covered = 0
    for _ in range(500):
        rates = [float(draw.random() < 0.4) for _ in range(50)]  # all samples of a problem agree: 50 trials, however many samples
        low, high = wilson(sum(rates), len(rates))
        covered += low <= 0.4 <= high
    assert covered > 455


def group(rewards: list[float | None], lengths: list[int], *, advantages: list[float]) -> Group:
    rollouts = []
    for reward, length, advantage in zip(rewards, lengths, advantages, strict=True):
        answer = completion(range(length), truncated=length > 3)
        rollouts.append(Rollout(
            prompt=prompt(), turns=(Turn(prompt_ids=(1,), completion=answer),), text="", rewards={"a": reward, "b": None},
            reward=reward, advantage=advantage,
        ))
    return Group(prompt=prompt(), rollouts=tuple(rollouts))


def test_rollout_metrics_by_hand() -> None:
    """Prevents: None counted as 0, lengths of one turn only, shares over groups where rollouts are meant."""
    metrics = rollout_metrics(
        [group([1.0, 3.0], [2, 4], advantages=[-1.0, 1.0]), group([5.0, None], [3, 5], advantages=[0.0, 0.0])], {"a": 1.0, "b": 1.0}
    )
    assert metrics["reward"] == metrics["rewards/a/mean"] == 3.0
    assert metrics["reward_std"] == metrics["rewards/a/std"] == 2.0
    assert "rewards/b/mean" not in metrics
    assert metrics["frac_reward_zero_std"] == metrics["groups/with_signal"] == 0.5
    assert metrics["groups/one_scorable"] == 0.5
    assert metrics["completions/mean_length"] == 3.5
    assert (metrics["completions/min_length"], metrics["completions/max_length"]) == (2, 5)
    assert metrics["completions/clipped_ratio"] == 0.5


def test_nothing_scored_leaves_the_reward_out() -> None:
    metrics = rollout_metrics([group([None, None], [1, 1], advantages=[0.0, 0.0])], {"a": 1.0})
    assert "reward" not in metrics


def test_clock_accounts_for_the_whole_step() -> None:
    """Phases and the rest add up to the step, and a phase entered twice is summed."""
    clock = StepClock()
    for _ in range(2):
        with clock.phase("sample"):
            time.sleep(0.002)
    with pytest.raises(KeyError), clock.phase("train"):
        raise KeyError
    metrics = clock.metrics(sampled_tokens=100, trained_tokens=10)
    assert metrics["time/sample"] >= 0.004
    assert metrics["time/step"] == pytest.approx(sum(metrics[f"time/{name}"] for name in ("sample", "train", "unaccounted")))
    assert metrics["throughput/sample_tokens_per_second"] == pytest.approx(100 / metrics["time/sample"])
    assert 0.01 < peak_gib() < 1000


@pytest.mark.parametrize("huge", [1e30, 1e200, 1e308])
def test_no_number_is_so_large_that_a_step_ends_in_its_statistics(huge: float) -> None:
    """Prevents: an overflow in a variance that kills a training of days. What has no finite value is recorded as null."""
    given = group([huge, -huge, huge], [2, 3, 2], advantages=[huge, huge, -huge])
    logged = Group(prompt=given.prompt, rollouts=tuple(replace(each, logged={"seen": huge}) for each in given.rollouts))
    found = rollout_metrics([logged], {"a": 1e300, "b": 1.0})
    assert found["logged/seen"] == found["advantages/abs_mean"] == pytest.approx(huge)
    assert found["reward"] == pytest.approx(huge / 3) and (found["reward_std"] > 1e29)


def test_shares_of_groups_are_counted() -> None:
    """Prevents: a share of -2.8e-17, as the rest of two others."""
    for right, wrong, mixed in ((1, 6, 0), (3, 3, 1), (2, 5, 0), (1, 1, 8)):
        verdicts = [["right", "right"]] * right + [["wrong", "wrong"]] * wrong + [["right", "wrong"]] * mixed
        values = solved([judged(*each) for each in verdicts])
        assert values["groups/mixed"] == mixed / (right + wrong + mixed)


def test_answers_that_end_alike_are_no_duplicates() -> None:
    """Prevents: games that were played otherwise and end with the same move, told as siblings that say the same."""
    def played(*moves: int) -> Rollout:
        turns = tuple(Turn(prompt_ids=(1,), completion=completion([move])) for move in moves)
        return Rollout(prompt=prompt(), turns=turns, text=str(moves[-1]))

    assert duplicates([Group(prompt=prompt(), rollouts=(played(1, 2, 7), played(1, 3, 7), played(7)))]) == 0
    assert duplicates([Group(prompt=prompt(), rollouts=(played(1, 7), played(1, 7), played(7), played(7)))]) == 0.5


def judged(*verdicts: str) -> Group:
    turn = Turn(prompt_ids=(1,), completion=completion([1]))
    return Group(prompt=prompt(), rollouts=tuple(Rollout(prompt=prompt(), turns=(turn,), text="", verdict=each) for each in verdicts))
