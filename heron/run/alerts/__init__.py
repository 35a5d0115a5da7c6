"""What can be wrong with a run that goes on without an error, each as one pure function over what was recorded.

The one hard idea: GRPO fails in silence. Rewards that are all equal, a reward that is learnt instead of the task, answers cut off
before they answer: the loss stays finite through all of them. Each function here looks for one such failure and, where it sees it,
returns the figures that show it and what to try. One fault shows in several ways, so causes come before what follows from them.

Left out: anything that the trainer stops on by itself (numbers that are not finite in the middle of a step, a reward that raises).
"""

from __future__ import annotations

from collections.abc import Callable

from heron.run.alerts.history import Alert, History
from heron.run.alerts.lengths import length_collapse, length_creep, never_ends, truncation
from heron.run.alerts.policy import (
    entropy_collapse,
    entropy_explosion,
    far_from_start,
    gradient_spike,
    much_clipped,
    not_finite,
    reward_collapse,
    sampler_mismatch,
)
from heron.run.alerts.resources import disk
from heron.run.alerts.rewards import (
    constant_rewards,
    dead_reward,
    format_only,
    judge_budget,
    one_function,
    reward_without_accuracy,
    unscored,
)
from heron.run.alerts.signal import duplicates, lonely_rollouts, never_right, no_signal

Check = Callable[[History], Alert | None]

CHECKS: tuple[Check, ...] = (
    not_finite,
    unscored,
    constant_rewards,
    reward_collapse,
    truncation,
    never_ends,
    entropy_explosion,
    dead_reward,
    format_only,
    reward_without_accuracy,
    one_function,
    never_right,
    duplicates,
    entropy_collapse,
    no_signal,
    lonely_rollouts,
    length_collapse,
    length_creep,
    far_from_start,
    much_clipped,
    sampler_mismatch,
    gradient_spike,
    disk,
    judge_budget,
)
"""Every check, causes before consequences."""


def examine(history: History) -> tuple[Alert, ...]:
    """Every alert that this history gives reason for, the likeliest cause first."""
    looked_at = history.trimmed()
    return tuple(alert for check in CHECKS if (alert := check(looked_at)) is not None)


__all__ = ["CHECKS", "Alert", "Check", "History", "examine"]
