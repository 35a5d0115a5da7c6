"""Heron's settings and rewards in TRL's terms, so that both sides do the same work. Needs no TRL."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from heron.types import Tags

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

CountTokens = Callable[[Sequence[Sequence[int]]], None]

VARIANTS: dict[str, int] = {"one micro-batch": 1, "4 micro-batches": 4}
"""How TRL may cut the batch: `gradient_accumulation_steps`. The first saves calls, the second padding and memory traffic."""


def common_settings(workload: Workload) -> dict[str, Any]:
    """What TRL is told so that it does the same work as Heron, and nothing besides."""
    train, rollout, objective = workload.config.train, workload.config.rollout, workload.config.objective
    same_work = {
        "num_generations": rollout.num_generations, "max_completion_length": rollout.max_completion_length,
        "temperature": rollout.temperature, "loss_type": objective.loss_type, "scale_rewards": objective.scale_rewards,
        "epsilon": objective.epsilon, "epsilon_high": objective.epsilon_high, "beta": objective.beta,
        "mask_truncated_completions": objective.mask_truncated_completions, "num_iterations": objective.num_iterations,
        "learning_rate": train.learning_rate, "lr_scheduler_type": "constant", "weight_decay": train.weight_decay,
        "adam_beta1": train.adam_beta1, "adam_beta2": train.adam_beta2, "max_grad_norm": train.max_grad_norm, "seed": train.seed,
        "reward_weights": [weight for _, weight in workload.rewards],
    }
    nothing_besides = {
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_dropout": True, "report_to": "none",
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
    }
    return same_work | nothing_besides


def as_trl_reward(function: Callable[..., Any], tags: Tags, count: CountTokens | None = None) -> Callable[..., list[Any]]:
    """A reward in Heron's row form as TRL calls it; `count` is told what was sampled."""
    wanted = inspect.signature(function).parameters

    def score(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[Any]:
        if count is not None:
            count(completion_ids)
        asked = {name: values for name, values in columns.items() if name in wanted}
        fixed = {"tags": tags} if "tags" in wanted else {}
        return [
            function(completion=messages[0]["content"], **fixed, **{name: values[row] for name, values in asked.items()})
            for row, messages in enumerate(completions)
        ]

    score.__name__ = function.__name__
    return score


def trl_batch(workload: Workload, variant: str) -> dict[str, Any]:
    """One generation and one optimizer step for each batch of rollouts, forwarded in so many parts."""
    parts = VARIANTS[variant]
    return {"per_device_train_batch_size": workload.rollouts_per_step // parts, "gradient_accumulation_steps": parts}
