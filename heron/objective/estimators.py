"""Advantage estimators by name, each with its formula and paper. r reward of a rollout; mean and std are those of its group.

    group                 (r - mean) / (std + 1e-4)    std of the group (GRPO 2402.03300), the batch (2508.08221), none (2503.20783)
    normalize_then_sum    each reward function by itself, as above; their weighted sum divided by its std over the batch (GDPO 2601.05242)
    rloo                  r - mean of the *others* (2402.14740)
    reinforce_plus_plus   (r - mean) / (std over the batch of r - mean, + 1e-4)    the form with a group baseline (2501.03262)
    max_rl                (r - mean) / (mean + 1e-6), r >= 0 (2602.02710)

A std has one degree of freedom less. What an estimator says as NaN becomes advantage 0. One of your own is a decorated function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from heron.errors import ConfigError, RewardError, did_you_mean
from heron.objective.rewards import Rewards
from heron.userfile import is_in_file, load_attribute

EPSILON = 1e-4
"""Added to a standard deviation."""
MEAN_EPSILON = 1e-6
"""Added to a mean reward."""
ROUNDING = 1e-12
"""A sum this small beside its terms is 0 and rounding."""
SCALES = ("group", "batch", "none")
"""What the estimator `group` divides by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """From `Rewards` to advantages. Made by `register_advantage`."""

    name: str
    """As in `objective.advantage_estimator`."""
    function: Callable[..., Tensor]
    """`(rewards: Rewards[, *, scale_rewards: str]) -> Tensor [R]`."""

    def __call__(self, rewards: Rewards, *, scale_rewards: str = "group") -> Tensor:
        """`[R]`; the function gets `scale_rewards` if it names it."""
        if "scale_rewards" in inspect.signature(self.function).parameters:
            return self.function(rewards, scale_rewards=scale_rewards)
        return self.function(rewards)


def register_advantage(function: Callable[..., Tensor]) -> Estimator:
    """Makes an `Estimator` of a function `(rewards: Rewards, *, scale_rewards: str) -> Tensor [R]`."""
    return Estimator(name=function.__name__, function=function)


def find_estimator(name: str) -> Estimator:
    """A built-in estimator, or your own as `path/file.py:function`."""
    if not is_in_file(name):
        if name not in ESTIMATORS:
            raise ConfigError(f"There is no advantage estimator {name!r}.{did_you_mean(name, ESTIMATORS)} Built in are "
                              f"{', '.join(ESTIMATORS)}; your own is named by its file, as in advantages.py:my_estimator.")
        return ESTIMATORS[name]
    found = load_attribute(name, purpose="an advantage estimator")
    if not isinstance(found, Estimator):
        raise ConfigError(f"{name} is no advantage estimator. Put @register_advantage above the function; it is imported from "
                          "heron.objective.")
    return found


@register_advantage
def group(rewards: Rewards, *, scale_rewards: str) -> Tensor:
    """The z-score within the group."""
    centred = rewards.centred(rewards.total)
    if scale_rewards == "none":
        return centred
    std = rewards.group_std(rewards.total) if scale_rewards == "group" else _std(rewards.total)
    return centred / (std + EPSILON)


@register_advantage
def normalize_then_sum(rewards: Rewards) -> Tensor:
    """So that a reward with a large spread does not drown one with a small spread."""
    if not rewards.names:
        raise ConfigError('objective.advantage_estimator = "normalize_then_sum" needs what each reward function said. Give the parts.')
    scores = torch.stack([_z_score(rewards, column) for column in rewards.parts.unbind(1)], dim=1)  # [R, K]
    terms = scores.nan_to_num(nan=0.0) * rewards.part_weights  # [R, K]
    total = terms.sum(1)
    total = total.masked_fill(total.abs() <= ROUNDING * terms.abs().sum(1), 0.0)  # what cancels, cancels exactly
    total = total.masked_fill(rewards.total.isnan(), torch.nan)
    return total / (_std(total) + EPSILON)  # the mean over the batch is 0: every score sums to 0 over its group


def _z_score(rewards: Rewards, x: Tensor) -> Tensor:
    return rewards.centred(x) / (rewards.group_std(x) + EPSILON)


@register_advantage
def rloo(rewards: Rewards) -> Tensor:
    """Leave-one-out: the baseline is the mean of the siblings without oneself, so it is unbiased."""
    others = rewards.group_size(rewards.total) - 1
    return rewards.centred(rewards.total) * (others + 1) / others


@register_advantage
def reinforce_plus_plus(rewards: Rewards) -> Tensor:
    """One scale for the batch, from rewards whose group's mean is taken off."""
    centred = rewards.centred(rewards.total)
    return centred / (_std(centred) + EPSILON)


@register_advantage
def max_rl(rewards: Rewards) -> Tensor:
    """Its expected gradient is that of a truncated log of the success rate, where that of the others is the success rate's."""
    if bool((rewards.total < 0).any()):
        raise RewardError('objective.advantage_estimator = "max_rl" needs rewards that are not negative, but one is '
                          f"{float(rewards.total[rewards.total < 0][0]):g}. Add a constant to them, or choose another estimator.")
    return rewards.centred(rewards.total) / (rewards.group_mean(rewards.total) + MEAN_EPSILON)


def _std(x: Tensor) -> Tensor:
    """Of all that is not NaN, with one degree of freedom less; NaN for fewer than two values."""
    known = x[~x.isnan()]
    return known.std() if len(known) > 1 else x.new_tensor(torch.nan)


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType({
    "group": group,
    "normalize_then_sum": normalize_then_sum,
    "rloo": rloo,
    "reinforce_plus_plus": reinforce_plus_plus,
    "max_rl": max_rl,
})
"""The estimators that can be named in a config."""
