"""TRL's `GRPOTrainer` on a workload, one step at a time.

The one hard idea: its loop cannot be stepped from outside, so turns are taken from inside, in the callback that ends its step.
A step's seconds run from the moment that the callback gave control back to the moment that it is called again: generation,
rewards, update and TRL's own bookkeeping, and nothing of the other side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from benchmarks.same_work import as_trl_reward, common_settings
from benchmarks.timing import StepTime
from benchmarks.workloads import Workload

AfterStep = Callable[[StepTime], None]


def run_trl(workload: Workload, settings: Mapping[str, Any], *, num_steps: int, scratch: Path, after_step: AfterStep) -> None:
    """Train `num_steps` steps; `after_step` is called after each, on the same thread, and its own time is not counted."""
    logging.disable_progress_bar()
    turns = _Turns(after_step)
    functions: list[Any] = [
        as_trl_reward(function, workload.config.tags, turns.sampled if index == 0 else None)
        for index, (function, _) in enumerate(workload.rewards)
    ]
    trainer = GRPOTrainer(
        model=workload.config.model.name, reward_funcs=functions, train_dataset=_dataset(workload), callbacks=[turns],
        args=GRPOConfig(**common_settings(workload), **settings, max_steps=num_steps, output_dir=str(scratch)),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _dataset(workload: Workload) -> datasets.Dataset:
    """Rows as TRL reads them: the conversation as `prompt`, with the other columns beside it."""
    return datasets.Dataset.from_list([{**prompt.columns, "prompt": list(prompt.messages)} for prompt in workload.prompts()])


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
