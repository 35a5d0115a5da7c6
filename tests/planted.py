"""Faults that are planted into a training, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from small_runs import decoder

from heron.training.trainer import Trainer


@contextmanager
def little_memory(trainer: Trainer, *, tokens: int, when: Callable[[], bool] = torch.is_grad_enabled) -> Iterator[list[int]]:
    """The allocator fails in every forward pass over more than so many tokens, as torch's for a GPU does; yields the sizes that failed.

    By default only passes that keep a graph need so much.
    """
    failed: list[int] = []

    def forward(module: torch.nn.Module, _: Any, keywords: dict[str, Any]) -> None:
        size = keywords["input_ids"].numel()
        if when() and size > tokens:
            failed.append(size)
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} MiB.")

    hook = decoder(trainer.policy).register_forward_pre_hook(forward, with_kwargs=True)
    try:
        yield failed
    finally:
        hook.remove()


def break_gradients(trainer: Trainer, steps: set[int], *, value: float = float("nan")) -> None:
    """The gradient of the first weight is not finite in these steps."""
    weight = next(iter(trainer.policy.trainable()))[1]
    weight.register_hook(lambda gradient: gradient * value if trainer.state.step + 1 in steps else gradient)
