"""One step of the engine, whoever it is for: completions of one call (`engine.Session`), or of all comers (`open.OpenSession`)."""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Protocol

from torch import Tensor

from heron.engine.native.runner import Runner
from heron.engine.native.scheduler import Scheduler
from heron.engine.native.sequence import Branch, Sequence


class Draws(Protocol):
    """Says the next token of every open sequence (`sampler.Sampler`, `sampler.Samplers`)."""

    def draw(self, logits: Tensor, branches: List[Branch]) -> None:
        """`logits [B, V]` may be written into; row b is branch b's."""
        ...


class Core:
    """What runs, its tensors, and what is said."""

    def __init__(self, scheduler: Scheduler, runner: Runner, sampler: Draws) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.sampler = sampler

    def step(self) -> list[Sequence]:
        """One forward pass: over prompts that have just got their pages, or else one more token of everything that runs. Returns what
        has just said a token."""
        self.runner.copy(self.scheduler.admit())
        if chunks := self.scheduler.chunks():
            branches = [chunk.branch for chunk in chunks if chunk.is_last]
            logits = self.runner.prefill(chunks)
            self.scheduler.computed(chunks)
        else:
            branches = self.scheduler.grow()
            logits = self.runner.decode(branches)
        self.sampler.draw(logits, branches)
        spoke = [sequence for branch in branches for sequence in branch.sequences]
        self.runner.copy(self.scheduler.settle(branches))
        if not self.runner.is_hosted:  # whose kernel reads pages where they lie
            self.runner.copy(self.scheduler.compact())
        return spoke
