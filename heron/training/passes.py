"""The micro-batches of a batch of rollouts over all passes on it, and the log-probs that stay fixed from the first pass on.

The one hard idea: packing never changes the order of samples. So what was fixed for the tokens of one cut holds for those of any other, and
an optimizer step whose memory ran out is done again in smaller micro-batches, with the very same old log-probs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from heron.training.batch import Microbatch, pack
from heron.training.samples import Sample
from heron.training.update import Anchors


@dataclass(frozen=True, slots=True, kw_only=True)
class Minibatch:
    """The rollouts of one optimizer step."""

    samples: tuple[tuple[Sample, ...], ...]
    """By group; empty if none of them can move the weights."""
    batches: tuple[Microbatch, ...]
    """The same, packed."""
    entropy: float | None = None
    """Mean entropy of their kept tokens when they were sampled; None where it is not wanted, and where none is kept."""
    is_stale: bool = False
    """Older weights than these sampled some of their tokens: the old log-probs are what the sampler reported."""

    @classmethod
    def packed(
        cls, samples: Sequence[Sequence[Sample]], *, budget: int, device: torch.device, entropy: float | None = None, is_stale: bool = False
    ) -> Minibatch:
        """In micro-batches of at most `budget` tokens."""
        return cls(
            samples=tuple(map(tuple, samples)), batches=tuple(pack(samples, budget=budget, device=device)), entropy=entropy,
            is_stale=is_stale,
        )

    def cut(self, budget: int, device: torch.device) -> Minibatch:
        """The same samples in micro-batches of another size."""
        return replace(self, batches=tuple(pack(self.samples, budget=budget, device=device)))


@dataclass(slots=True)
class Passes:
    """What `num_iterations` passes over these minibatches work on."""

    minibatches: list[Minibatch]
    """One for each optimizer step of a pass."""
    anchors: list[tuple[Anchors, ...] | None] = field(init=False)
    """Of the micro-batches of each minibatch; None before they are known."""

    def __post_init__(self) -> None:
        self.anchors = [None] * len(self.minibatches)

    def of(self, number: int) -> list[tuple[Microbatch, Anchors | None]]:
        """The micro-batches of a minibatch with what is fixed for each."""
        batches = self.minibatches[number].batches
        return list(zip(batches, self.anchors[number] or (None,) * len(batches), strict=True))

    def cut(self, budget: int, device: torch.device) -> None:
        """Cut all of them anew."""
        self.minibatches = [each.cut(budget, device) for each in self.minibatches]
        self.anchors = [
            None if known is None else _divided(known, [len(batch.targets) for batch in each.batches])
            for each, known in zip(self.minibatches, self.anchors, strict=True)
        ]


def _divided(anchors: Sequence[Anchors], sizes: Sequence[int]) -> tuple[Anchors, ...]:
    """The same values for the same tokens, in parts of other sizes."""
    old = _parts([each.old for each in anchors], sizes)
    reference = _parts([each.reference for each in anchors], sizes)
    return tuple(Anchors(old=first, reference=second) for first, second in zip(old, reference, strict=True))


def _parts(values: Sequence[Tensor | None], sizes: Sequence[int]) -> Sequence[Tensor | None]:
    known = [value for value in values if value is not None]
    return torch.cat(known).split(list(sizes)) if known else [None] * len(sizes)
