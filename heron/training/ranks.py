"""What one optimizer step needs of the other ranks: sums of counts, and the sum of gradients. Alone, all of it is the identity.

Gradients are summed and not averaged, because the weights of the loss were counted over all ranks. So ranks may hold as many rows
as they like, none included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from itertools import chain
from typing import Any

import torch
from torch import distributed, nn

from heron.objective import Counts


def are_several() -> bool:
    """True if a step is shared with other processes."""
    return _is_distributed() and distributed.get_world_size() > 1


def total(counts: Counts) -> Counts:
    """The sum over all ranks."""
    return Counts(*_sums(astuple(counts))) if _is_distributed() else counts


def total_of(number: int) -> int:
    """The sum of a number over all ranks."""
    return _sums((number,))[0] if _is_distributed() else number


def gathered(values: list[float]) -> list[float]:
    """The values of all ranks, one after the other."""
    if not _is_distributed():
        return values
    lists: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(lists, values)
    return list(chain.from_iterable(lists))


def sum_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all ranks, in place. A rank without a gradient for a weight adds nothing to it."""
    if not _is_distributed():
        return
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        distributed.all_reduce(weight.grad)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _sums(numbers: tuple[int, ...]) -> list[int]:
    """Sums of whole numbers over all ranks."""
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(numbers, dtype=torch.int64, device=device)
    distributed.all_reduce(tensor)
    return [int(number) for number in tensor.tolist()]
