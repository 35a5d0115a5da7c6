"""TRL's `GRPOTrainer` on a workload, one step at a time.

The one hard idea: its loop cannot be stepped from outside, so turns are taken from inside, in the callback that ends its step.
A step's seconds run from the moment that the callback gave control back to the moment that it is called again: generation,
rewards, update and TRL's own bookkeeping, and nothing of the other side.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.timing import StepTime
from benchmarks.workloads import Workload
from heron.types import Tags

AfterStep = Callable[[StepTime], None]


def run_trl(workload: Workload, settings: Mapping[str, Any], *, num_steps: int, scratch: Path, after_step: AfterStep) -> None:
    """Train `num_steps` steps; `after_step` is called after each, on the same thread, and its own time is not counted."""
    turns = _Turns(after_step)
    functions = [
        as_trl_reward(function, workload.config.tags, turns if index == 0 else None)
        for index, (function, _) in enumerate(workload.rewards)
    ]
    trainer = GRPOTrainer(
        model=workload.config.model.name, reward_funcs=functions, train_dataset=_dataset(workload), callbacks=[turns],
        args=GRPOConfig(**common_settings(workload), **settings, max_steps=num_steps, output_dir=str(scratch)),
    )
    trainer.train()


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


def as_trl_reward(function: Callable[..., Any], tags: Tags, turns: _Turns | None = None) -> Callable[..., list[Any]]:
    """A reward in Heron's row form as TRL calls it; the first one tells `turns` how many tokens were sampled."""
    wanted = inspect.signature(function).parameters

    def score(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[Any]:
        if turns is not None:
            turns.sampled(completion_ids)
        asked = {name: values for name, values in columns.items() if name in wanted}
        fixed = {"tags": tags} if "tags" in wanted else {}
        return [
            function(completion=messages[0]["content"], **fixed, **{name: values[row] for name, values in asked.items()})
            for row, messages in enumerate(completions)
        ]

    score.__name__ = function.__name__
    return score


def _dataset(workload: Workload) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"prompt": list(prompt.messages)} | {k: v for k, v in prompt.columns.items() if k != "prompt"} for prompt in workload.prompts()]
    )


class _Turns(TrainerCallback):
    """Times TRL's steps and gives the thread away between two of them."""

    def __init__(self, after_step: AfterStep) -> None:
        self.after_step = after_step
        self.tokens = 0
        self.began = time.perf_counter()

    def sampled(self, completion_ids: Sequence[Sequence[int]]) -> None:
        self.tokens += sum(map(len, completion_ids))

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        step = StepTime(seconds=time.perf_counter() - self.began, tokens=self.tokens)
        self.tokens = 0
        self.after_step(step)
        self.began = time.perf_counter()
