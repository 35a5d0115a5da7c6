"""What can be wrong with a run that goes on without an error, each as one pure function over what was recorded.

The one hard idea: GRPO fails in silence. Rewards that are all equal, a reward that is learnt instead of the task, answers cut off
before they answer: the loss stays finite through all of them. Each function here looks for one such failure and, where it sees it,
returns the figures that show it and what to try. One fault shows in several ways, so causes come before what follows from them.

Left out: anything that the trainer stops on by itself (numbers that are not finite in the middle of a step, a reward that raises).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
from heron.run.alerts.resources import disk, out_of_memory
from heron.run.alerts.rewards import (
    constant_rewards,
    dead_reward,
    format_only,
    judge_budget,
    one_function,
    reward_without_accuracy,
    silent_reward,
    unscored,
)
from heron.run.alerts.signal import duplicates, lonely_rollouts, never_right, no_signal

Check = Callable[[History], Alert | None]

CHECKS: Mapping[str, Check] = {
    "not-finite": not_finite,
    "unscored-rollouts": unscored,
    "silent-reward": silent_reward,
    "constant-reward": constant_rewards,
    "reward-collapse": reward_collapse,
    "truncation": truncation,
    "never-ends": never_ends,
    "entropy-explosion": entropy_explosion,
    "dead-reward": dead_reward,
    "format-only": format_only,
    "reward-without-accuracy": reward_without_accuracy,
    "one-reward-decides": one_function,
    "never-right": never_right,
    "duplicate-completions": duplicates,
    "entropy-collapse": entropy_collapse,
    "no-signal": no_signal,
    "lonely-rollouts": lonely_rollouts,
    "length-collapse": length_collapse,
    "length-creep": length_creep,
    "large-kl": far_from_start,
    "much-clipped": much_clipped,
    "sampler-mismatch": sampler_mismatch,
    "gradient-spike": gradient_spike,
    "out-of-memory": out_of_memory,
    "disk": disk,
    "judge-budget": judge_budget,
}
"""Every check by the id of its alert, causes before consequences."""


def examine(history: History) -> tuple[Alert, ...]:
    """Every alert that this history gives reason for, the likeliest cause first."""
    return tuple(alert for check in CHECKS.values() if (alert := check(history)) is not None)


__all__ = ["CHECKS", "Alert", "Check", "History", "examine"]
