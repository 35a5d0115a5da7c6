"""From the rewards of siblings to advantages: who did better than the others of its group.

`advantages` is the entry. The one hard idea: a reward that is missing is NaN all the way, and turns into advantage 0 at the very end;
and a group without a difference gets *exactly* 0, not the rounding error of its mean divided by a small number. So rollouts without
an advantage can be left out of the computation. The estimators themselves: `heron.objective.estimators`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from heron.errors import ConfigError, RewardError
from heron.objective.estimators import SCALES, Estimator, find_estimator
from heron.objective.rewards import Rewards

Total = float | None


def advantages(
    totals: Sequence[Sequence[Total]], parts: Sequence[Sequence[Mapping[str, Total]]] = (), weights: Mapping[str, float] | None = None,
    *, estimator: str | Estimator = "group", scale_rewards: str = "group",
) -> list[list[float]]:
    """Advantages of the rollouts of one batch, computed in float64.

    Args:
        totals: B groups of sibling rewards (groups may differ in size); None marks a rollout that could not be scored: it gets
            advantage 0 and counts in no mean or std.
        parts: for each rollout what each reward function said, by name, None where it did not apply. Only some estimators look at it.
        weights: of each part by name; the parts that are not named weigh 1.
        estimator: `group`, `normalize_then_sum`, `rloo`, `reinforce_plus_plus`, `max_rl`, `path/file.py:function`, or one itself.
        scale_rewards: for `group`, what advantages are divided by: the std of the `group`, of the `batch`, or nothing (`none`).

    Returns:
        One advantage per rollout, in the shape of `totals`.
    """
    if scale_rewards not in SCALES:
        raise ConfigError(f"objective.scale_rewards must be one of {', '.join(SCALES)}, but it is {scale_rewards!r}.")
    chosen = find_estimator(estimator) if isinstance(estimator, str) else estimator
    rewards = _rewards(totals, parts, weights or {})
    found = _checked(chosen(rewards, scale_rewards=scale_rewards), chosen, rewards)
    values = iter(found.tolist())
    return [[next(values) for _ in group] for group in totals]


def loneliness(totals: Sequence[Sequence[Total]]) -> int:
    """Groups with exactly one rollout that could be scored: nobody to compare it with, so it teaches nothing."""
    return sum(sum(total is not None for total in group) == 1 for group in totals)


def _rewards(totals: Sequence[Sequence[Total]], parts: Sequence[Sequence[Mapping[str, Total]]], weights: Mapping[str, float]) -> Rewards:
    for number, group in enumerate(totals):
        for sibling, total in enumerate(group):
            if total is not None and not math.isfinite(total):
                raise RewardError(f"The reward of rollout {sibling} of group {number} is {total}. Rewards must be finite numbers, or None "
                                  "for a rollout that cannot be scored.")
    rows = list(chain.from_iterable(parts)) if parts else [{} for group in totals for _ in group]
    names = tuple(dict.fromkeys(chain.from_iterable(rows)))
    return Rewards(
        total=_tensor(chain.from_iterable(totals)), names=names,
        parts=_tensor(row.get(name) for row in rows for name in names).view(len(rows), len(names)),
        part_weights=torch.tensor([weights.get(name, 1.0) for name in names], dtype=torch.float64),
        groups=torch.tensor([number for number, group in enumerate(totals) for _ in group], dtype=torch.int64),
    )


def _tensor(values: Iterable[Total]) -> Tensor:
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)


def _checked(found: Tensor, estimator: Estimator, rewards: Rewards) -> Tensor:
    """The estimator's word, NaN turned into 0. What is no advantage is an error that names the estimator."""
    if not isinstance(found, Tensor) or found.shape != rewards.total.shape:
        given = list(found.shape) if isinstance(found, Tensor) else found
        raise RewardError(f"The advantage estimator {estimator.name} returned {given}. It must return one number per rollout, "
                          f"a tensor of the shape {list(rewards.total.shape)}.")
    if bool(found.isinf().any()):
        row = int(found.isinf().nonzero()[0])
        raise RewardError(f"The advantage estimator {estimator.name} returned {float(found[row])} for rollout {row}, whose reward is "
                          f"{float(rewards.total[row]):g}. Add a small number to what it divides by.")
    return found.nan_to_num(nan=0.0)
