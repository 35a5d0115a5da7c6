"""Rewards to advantages: exact zeros, unscored rollouts, the three scales."""

from __future__ import annotations

import math
import random
from statistics import fmean, pstdev, stdev

import pytest

from heron.objective import advantages


def test_group_scale_is_the_z_score_with_sample_std() -> None:
    """Prevents: the population std, which peers do not use, and a z-score over the wrong axis."""
    rewards = [[1.0, 2.0, 4.0], [0.0, 0.0, 10.0, 3.0]]
    for group, values in zip(rewards, advantages(rewards), strict=True):
        assert values == pytest.approx([(r - fmean(group)) / (stdev(group) + 1e-4) for r in group], rel=1e-12)
        assert values != pytest.approx([(r - fmean(group)) / (pstdev(group) + 1e-4) for r in group], rel=1e-3)


def test_batch_scale_divides_by_the_std_of_all_rewards() -> None:
    rewards = [[1.0, 2.0], [0.0, 10.0]]
    spread = stdev([1.0, 2.0, 0.0, 10.0]) + 1e-4
    assert advantages(rewards, scale="batch") == [
        pytest.approx([-0.5 / spread, 0.5 / spread]), pytest.approx([-5 / spread, 5 / spread])
    ]


def test_no_scale_only_centres() -> None:
    assert advantages([[1.0, 2.0, 6.0]], scale="none") == [[-2.0, -1.0, 3.0]]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, -7.3, 1e-9, 1e9])
def test_equal_rewards_give_exactly_zero(scale: str, reward: float) -> None:
    """Prevents: rounding of the mean, divided by 1e-4, which would train on a group without signal."""
    for siblings in (2, 3, 7, 16):
        assert advantages([[reward] * siblings, [0.0, 1.0]], scale=scale)[0] == [0.0] * siblings


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_unscored_rollouts_get_zero_and_do_not_count(scale: str) -> None:
    """Prevents: None read as a reward of 0."""
    with_gaps = advantages([[1.0, None, 3.0, None], [None, 5.0]], scale=scale)
    assert with_gaps[0][1] == with_gaps[0][3] == 0.0
    without = advantages([[1.0, 3.0], [5.0]], scale=scale)
    assert [with_gaps[0][0], with_gaps[0][2]] == without[0]
    assert with_gaps[1] == [0.0, 0.0], "a rollout that is scored alone has nobody to be better than"


def test_nothing_scored_at_all() -> None:
    assert advantages([[None, None], [None]], scale="batch") == [[0.0, 0.0], [0.0]]


def test_moments_and_invariances() -> None:
    """Advantages of a group sum to 0, do not change when all rewards are shifted, and keep the order of rewards."""
    draw = random.Random(0)
    for _ in range(20):
        group = [draw.gauss(0, 5) for _ in range(draw.randint(2, 9))]
        (values,) = advantages([group])
        assert sum(values) == pytest.approx(0, abs=1e-9)
        assert advantages([[r + 100 for r in group]])[0] == pytest.approx(values, abs=1e-9)
        assert sorted(range(len(group)), key=group.__getitem__) == sorted(range(len(group)), key=values.__getitem__)


def test_tiny_spread_is_damped_not_blown_up() -> None:
    """1e-4 in the denominator keeps a spread of 1e-9 from becoming a full-size advantage."""
    (values,) = advantages([[0.5, 0.5 + 1e-9]])
    assert max(map(abs, values)) < 1e-4


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="'std'"):
        advantages([[1.0, 2.0]], scale="std")


def test_float64_throughout() -> None:
    """Prevents: float32, in which 16777217 is 16777216 and a real difference is lost."""
    (values,) = advantages([[16777216.0, 16777217.0]], scale="none")
    assert values == [-0.5, 0.5]
    assert not any(math.isnan(value) for value in values)
