"""Rewards to advantages: every estimator against plain Python on ragged groups with gaps, exact zeros, and what it refuses."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev, stdev

import pytest
import torch
from torch import Tensor

from heron.errors import ConfigError, RewardError
from heron.objective import ESTIMATORS, Rewards, advantages, loneliness, register_advantage

Groups = list[list[float | None]]
WEIGHTS = {"right": 1.0, "short": 0.3}
EVERY = [("group", "group"), ("group", "batch"), ("group", "none"), *((name, "group") for name in ESTIMATORS if name != "group")]


def draw(seed: int) -> tuple[Groups, list[list[dict[str, float | None]]]]:
    """Ragged groups of totals and of parts; about a fifth of the parts does not apply, and one group is uniform."""
    draws = random.Random(seed)
    parts = [[{"right": draws.choice([0.0, 1.0, None, 1.0, 0.0]), "short": draws.choice([None, *(draws.random() for _ in range(4))])}
              for _ in range(draws.randint(1, 6))] for _ in range(5)]
    parts.append([{"right": 1.0, "short": 0.3}] * 3)
    return [[total(row) for row in group] for group in parts], parts


def total(row: dict[str, float | None]) -> float | None:
    known = [WEIGHTS[name] * value for name, value in row.items() if value is not None]
    return sum(known) if known else None


def known_of(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def everything(groups: Groups) -> list[float]:
    return [value for group in groups for value in known_of(group)]


def centred(groups: Groups) -> Groups:
    return [[None if value is None else value - fmean(known_of(group)) for value in group] for group in groups]


def divided(groups: Groups, by: Callable[[int, list[float | None]], float]) -> list[list[float]]:
    return [[0.0 if value is None else value / by(index, group) for value in group] for index, group in enumerate(groups)]


def naive(name: str, scale: str, groups: Groups, parts: list[list[dict[str, float | None]]]) -> list[list[float]]:
    """The formulas as their papers print them, without a tensor."""
    offsets = centred(groups)
    if name == "group":
        by = {"group": lambda index, _: spread(known_of(groups[index])) + 1e-4, "none": lambda *_: 1.0,
              "batch": lambda *_: spread(everything(groups)) + 1e-4}[scale]
        return divided(offsets, by)
    if name == "reinforce_plus_plus":
        return divided(offsets, lambda *_: spread(everything(offsets)) + 1e-4)
    if name == "max_rl":
        return divided(offsets, lambda index, _: fmean(known_of(groups[index])) + 1e-6)
    if name == "rloo":
        return [[0.0 if r is None or len(known_of(group)) < 2 else r - (sum(known_of(group)) - r) / (len(known_of(group)) - 1)
                 for r in group] for group in groups]
    return normalize_then_sum(groups, parts)


def normalize_then_sum(groups: Groups, parts: list[list[dict[str, float | None]]]) -> list[list[float]]:
    scores = {}
    for name in WEIGHTS:
        column = [[row[name] for row in group] for group in parts]
        scores[name] = divided(centred(column), lambda index, _, column=column: spread(known_of(column[index])) + 1e-4)
    summed = [[None if r is None else sum(WEIGHTS[name] * scores[name][i][j] for name in WEIGHTS) for j, r in enumerate(group)]
              for i, group in enumerate(groups)]
    mean, std = fmean(everything(summed)), spread(everything(summed))
    return [[0.0 if value is None else (value - mean) / (std + 1e-4) for value in group] for group in summed]


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_estimator_is_the_formula_of_its_paper(name: str, scale: str) -> None:
    """Prevents: the population std, a mean over the wrong axis, unscored rollouts that count, weights that slide between parts."""
    for seed in range(30):
        groups, parts = draw(seed)
        found = advantages(groups, parts, WEIGHTS, estimator=name, scale_rewards=scale)
        for mine, wanted in zip(found, naive(name, scale, groups, parts), strict=True):
            assert mine == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_the_std_has_one_degree_of_freedom_less() -> None:
    """Prevents: the population std, which peers do not use, in code and reference at once."""
    group = [1.0, 2.0, 4.0]
    assert advantages([group])[0] == pytest.approx([(r - fmean(group)) / (stdev(group) + 1e-4) for r in group], rel=1e-12)
    assert advantages([group])[0] != pytest.approx([(r - fmean(group)) / (pstdev(group) + 1e-4) for r in group], rel=1e-3)


@pytest.mark.parametrize(("name", "scale"), EVERY)
@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, 0.7, 1e-9, 1e9])
def test_equal_rewards_give_exactly_zero(name: str, scale: str, reward: float) -> None:
    """Prevents: rounding of the mean, divided by 1e-4, which would train on a group without signal."""
    for siblings in (1, 2, 3, 7, 16):
        groups = [[reward] * siblings, [0.0, 1.0]]
        parts = [[{"right": value} for value in group] for group in groups]
        assert advantages(groups, parts, estimator=name, scale_rewards=scale)[0] == [0.0] * siblings


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_unscored_rollouts_get_zero_and_do_not_count(name: str, scale: str) -> None:
    """Prevents: None read as a reward of 0."""
    def of(groups: Groups) -> list[list[float]]:
        parts = [[{"right": value} for value in group] for group in groups]
        return advantages(groups, parts, estimator=name, scale_rewards=scale)

    with_gaps, without = of([[1.0, None, 3.0, None], [None, 5.0], [None, None]]), of([[1.0, 3.0], [5.0]])
    assert with_gaps[0][1] == with_gaps[0][3] == 0.0
    assert [with_gaps[0][0], with_gaps[0][2]] == without[0]
    assert with_gaps[1] == [0.0, 0.0], "a rollout that is scored alone has nobody to be better than"
    assert with_gaps[2] == [0.0, 0.0]


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_nothing_scored_at_all(name: str, scale: str) -> None:
    """Prevents: NaN in the weights of a model, from the mean of nothing."""
    parts = [[{"right": None}, {"right": None}], [{"right": None}]]
    assert advantages([[None, None], [None]], parts, estimator=name, scale_rewards=scale) == [[0.0, 0.0], [0.0]]


def test_groups_with_a_single_scorable_rollout_are_counted() -> None:
    """Prevents: a run that learns nothing from such groups, silently."""
    assert loneliness([[1.0, None], [None, None], [1.0, 2.0], [3.0]]) == 2


def test_moments_and_invariances() -> None:
    """Advantages of a group sum to 0, do not change when all rewards are shifted, and keep the order of rewards."""
    draws = random.Random(0)
    for name, scale in EVERY:
        for _ in range(10):
            group = [draws.uniform(0, 5) for _ in range(draws.randint(2, 9))]
            def of(rewards: list[float], name: str = name, scale: str = scale) -> list[float]:
                return advantages([rewards], [[{"right": r} for r in rewards]], estimator=name, scale_rewards=scale)[0]
            values = of(group)
            assert sum(values) == pytest.approx(0, abs=1e-9)
            assert name == "max_rl" or of([r + 100 for r in group]) == pytest.approx(values, abs=1e-9)
            assert sorted(range(len(group)), key=group.__getitem__) == sorted(range(len(group)), key=values.__getitem__)


def test_tiny_spread_is_damped_not_blown_up() -> None:
    """1e-4 in the denominator keeps a spread of 1e-9 from becoming a full-size advantage."""
    (values,) = advantages([[0.5, 0.5 + 1e-9]])
    assert max(map(abs, values)) < 1e-4


def test_float64_throughout() -> None:
    """Prevents: float32, in which 16777217 is 16777216 and a real difference is lost."""
    assert advantages([[16777216.0, 16777217.0]], scale_rewards="none") == [[-0.5, 0.5]]


@pytest.mark.parametrize("siblings", [2, 5, 8])
def test_max_rl_has_the_gradient_of_a_truncated_log(siblings: int) -> None:
    """The reason to have it, by exact enumeration: E[1/G sum A score] = grad p * sum over k < G - 1 of (1 - p)^k.

    Prevents: a mean over the others, another sign, or a group without success that is not left alone. The small number added to the
    mean makes the difference of 1e-5.
    """
    p = 0.3  # one logit decides between right and wrong; score = right - p, grad p = p (1 - p)
    expected = 0.0
    for rewards in itertools.product([0.0, 1.0], repeat=siblings):
        chance = math.prod(p if right else 1 - p for right in rewards)
        (values,) = advantages([list(rewards)], estimator="max_rl")
        expected += chance * fmean(value * (right - p) for value, right in zip(values, rewards, strict=True))
    assert expected == pytest.approx(p * (1 - p) * sum((1 - p) ** k for k in range(siblings - 1)), rel=1e-5)


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_is_refused(reward: float) -> None:
    """Prevents: NaN taken for "could not be scored", and infinity that poisons its group in silence."""
    with pytest.raises(RewardError, match="rollout 1 of group 0"):
        advantages([[1.0, reward]])


def test_max_rl_refuses_negative_rewards() -> None:
    """Prevents: a mean near 0 of mixed signs, and advantages of any size."""
    with pytest.raises(RewardError, match=r"max_rl.*-0\.5"):
        advantages([[-0.5, 1.0]], estimator="max_rl")


def test_wrong_names_say_what_there_is() -> None:
    """Prevents: a bare KeyError."""
    with pytest.raises(ConfigError, match='Did you mean "max_rl"'):
        advantages([[1.0, 2.0]], estimator="maxrl")
    with pytest.raises(ConfigError, match=r"group, batch, none.*'std'"):
        advantages([[1.0, 2.0]], scale_rewards="std")
    with pytest.raises(ConfigError, match="needs what each reward function said"):
        advantages([[1.0, 2.0]], estimator="normalize_then_sum")


@register_advantage
def too_short(rewards: Rewards) -> Tensor:
    return rewards.total[:1]


@register_advantage
def plain_list(rewards: Rewards) -> Tensor:
    return [0.0, 0.0]


@register_advantage
def over_zero(rewards: Rewards) -> Tensor:
    return rewards.total / rewards.total.new_zeros(())


@register_advantage
def unsure(rewards: Rewards) -> Tensor:
    return torch.full_like(rewards.total, torch.nan)


@pytest.mark.parametrize("estimator", [too_short, plain_list, over_zero])
def test_an_estimator_that_returns_no_advantages_is_named(estimator: object) -> None:
    """Prevents: a wrong shape that only shows as an error, or as nonsense, in the middle of training."""
    with pytest.raises(RewardError, match=f"estimator {estimator.name} returned"):
        advantages([[1.0, 2.0]], estimator=estimator)


def test_what_an_estimator_leaves_open_is_zero() -> None:
    """Prevents: NaN as an advantage."""
    assert advantages([[1.0, 2.0]], estimator=unsure) == [[0.0, 0.0]]
