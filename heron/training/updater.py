"""All optimizer steps on one batch of rollouts: passes over it (`num_iterations`), and minibatches in a pass (`num_minibatches`).

The one hard idea: old log-probs are not computed where they are known. As long as the weights that sampled are the weights that
train, they are the policy's own of this very pass. Later they are what an exact engine reported. Only an engine whose log-probs are
not the trainer's makes a pass of its own necessary, and only if the weights will move before a rollout's turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from heron.models.policy import Policy
from heron.objective import AdaptiveEntropy, FixedEntropy, Objective, mismatch_statistics
from heron.training import ranks
from heron.training.batch import Microbatch
from heron.training.measures import Measures
from heron.training.update import Anchors, accumulate, clip_and_step, current_logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Minibatch:
    """The rollouts of one optimizer step."""

    batches: tuple[Microbatch, ...]
    """Packed; empty if none of them can move the weights."""
    entropy: float | None = None
    """Mean entropy of their kept tokens when they were sampled; None where it is not wanted, and where none is kept."""
    is_stale: bool = False
    """Older weights than these sampled some of their tokens: the old log-probs are what the sampler reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Updater:
    """Takes optimizer steps. Its only state is the policy's weights and the optimizer."""

    policy: Policy
    """What is trained."""
    optimizer: torch.optim.Optimizer
    """Holds the moments."""
    objective: Objective
    """Loss, KL and corrections."""
    temperature: float
    """The sampler's."""
    max_grad_norm: float
    """The gradient is scaled down to this norm."""
    num_iterations: int = 1
    """Passes over the batch."""
    engine_is_exact: bool = True
    """The engine's log-probs are the trainer's own."""

    def run(
        self, minibatches: Sequence[Minibatch], entropy: FixedEntropy | AdaptiveEntropy, *, report: Callable[[int, int], None]
    ) -> tuple[dict[str, float], FixedEntropy | AdaptiveEntropy, int]:
        """Train on the minibatches. Returns what was measured, the entropy bonus for the next step, and the optimizer steps taken."""
        steps = [step for _ in range(self.num_iterations) for step in minibatches]
        anchors = self._anchored(minibatches) if len(steps) > 1 and not self.engine_is_exact else {}
        measured: list[Measures] = []
        mismatch: dict[str, float] = {}
        norms: list[float] = []
        done, total = 0, sum(len(step.batches) for step in steps)
        for step in steps:
            for batch in step.batches:
                part, anchors[id(batch)] = accumulate(
                    self.policy, batch, self.objective, temperature=self.temperature, anchors=anchors.get(id(batch)),
                    is_on_policy=not norms and not step.is_stale, entropy_coef=entropy.applied,
                )
                measured.append(part)
                done += 1
                report(done, total)
            if step.batches and not norms and not step.is_stale:  # old log-probs that are the sampler's would hide any gap
                mismatch = self._mismatch([batch for part in minibatches for batch in part.batches], anchors, measured)
            if ranks.total_of(len(step.batches)):  # a rank without rows goes on, for the others wait for its gradient
                norms += [norm] if (norm := clip_and_step(self.optimizer, max_grad_norm=self.max_grad_norm)) else []
            if step.entropy is not None:
                entropy = entropy.after(step.entropy)
        return self._metrics(measured, norms, self.max_grad_norm) | mismatch, entropy, len(norms)

    def _anchored(self, minibatches: Sequence[Minibatch]) -> dict[int, Anchors]:
        """Old log-probs of every micro-batch whose turn comes after the weights have moved; those of the first step need no pass."""
        later = [batch for step in minibatches[1:] for batch in step.batches]
        return {id(batch): Anchors(old=current_logprobs(self.policy, batch, temperature=self.temperature)) for batch in later}

    @staticmethod
    def _mismatch(batches: Sequence[Microbatch], anchors: Mapping[int, Anchors], measured: Sequence[Measures]) -> dict[str, float]:
        """How far sampler and trainer are apart, before the weights move: over every batch whose old log-probs are the trainer's."""
        known = [(old, batch.sampler_logprobs) for batch in batches if id(batch) in anchors and (old := anchors[id(batch)].old) is not None]
        trainer, sampler = (torch.cat(parts) for parts in zip(*known, strict=True))
        marks = Measures.merged(measured).marks
        raw, bounded = (torch.cat(marks[name]) if name in marks else None for name in ("importance_raw", "importance"))
        return mismatch_statistics(trainer, sampler, raw=raw, bounded=bounded)

    @staticmethod
    def _metrics(measured: Sequence[Measures], norms: Sequence[float], limit: float) -> dict[str, float]:
        """Means over the optimizer steps (of the loss and the norm) and over the tokens (of the rest)."""
        values = Measures.merged(measured).metrics()
        if not values:
            return {}
        steps = max(len(norms), 1)
        clipped = [min(norm, limit) for norm in norms]
        return values | {"loss": values["loss"] / steps, "grad_norm": sum(norms) / steps, "grad_norm_clipped": sum(clipped) / steps}
