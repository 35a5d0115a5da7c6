"""All optimizer steps on one batch of rollouts: passes over it (`num_iterations`), and minibatches in a pass (`num_minibatches`).

The one hard idea: old log-probs are not computed where they are known. As long as the weights that sampled are the weights that
train, they are the policy's own of this very pass. Later they are what an exact engine reported. Only an engine whose log-probs are
not the trainer's makes a pass of its own necessary, and only if the weights will move before a rollout's turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from heron.errors import MemoryStop
from heron.models.policy import Policy
from heron.objective import AdaptiveEntropy, FixedEntropy, Objective, mismatch_statistics
from heron.training import ranks
from heron.training.batch import Microbatch
from heron.training.guarding.memory import is_out_of_memory
from heron.training.measures import Measures
from heron.training.passes import Minibatch, Passes
from heron.training.update import Anchors, NotFinite, accumulate, clip_and_step, current_logprobs

Found = TypeVar("Found")


class Relief(Protocol):
    """Who knows what to do where memory runs out."""

    def smaller(self, batch: Microbatch, words: str) -> int:
        """A smaller budget of packed tokens; MemoryStop if there is none."""
        ...

    def stop(self, phase: str, words: str) -> MemoryStop:
        """What to raise where nothing can be cut smaller."""
        ...


class Witness(Protocol):
    """Who looks at what is measured before the weights move for the first time on these rollouts."""

    def first_step(self, measured: Measures, mismatch: dict[str, float], *, is_on_policy: bool) -> None:
        """Raises if it cannot be true."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An optimizer step that was not taken."""

    what: tuple[str, ...]
    """What was not finite: `loss`, `ratio`, `gradient`."""
    weights: tuple[str, ...]
    """Those whose gradient was not finite, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of all optimizer steps on a batch of rollouts."""

    measured: dict[str, float]
    """Metrics."""
    entropy: FixedEntropy | AdaptiveEntropy
    """The entropy bonus for the next step."""
    steps: int
    """Optimizer steps that were taken."""
    skipped: tuple[Skipped, ...]
    """Those that were not, for something was not finite."""
    tokens: int
    """Packed tokens of one pass."""
    batches: tuple[Microbatch, ...]
    """Of one pass, as they were cut at last."""


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
        self, minibatches: Sequence[Minibatch], entropy: FixedEntropy | AdaptiveEntropy, *, report: Callable[[int, int], None],
        relief: Relief | None = None, witness: Witness | None = None,
    ) -> Outcome:
        """Train on the minibatches. An optimizer step with a number that is not finite is skipped; one whose memory ran out is done again
        in the smaller micro-batches that `relief` allows. `witness` sees what was measured before the weights move."""
        sitting = _Sitting(self, Passes(list(minibatches)), report, relief, witness, entropy)
        order = [number for _ in range(self.num_iterations) for number in range(len(minibatches))]
        if len(order) > 1 and not self.engine_is_exact:
            sitting.anchor()
        for number in order:
            sitting.take(number)
        batches = tuple(batch for each in sitting.passes.minibatches for batch in each.batches)
        return Outcome(
            measured=self._metrics(sitting.measured, sitting.norms, self.max_grad_norm) | sitting.mismatch, entropy=sitting.entropy,
            steps=len(sitting.norms), skipped=tuple(sitting.skipped), tokens=sum(batch.num_tokens for batch in batches), batches=batches,
        )

    def rehearse(self, minibatch: Minibatch, relief: Relief) -> None:
        """Compute the gradient of a minibatch, in the micro-batches that fit, and drop it."""
        sitting = _Sitting(self, Passes([minibatch]), lambda done, total: None, relief, None, FixedEntropy())
        sitting.rehearse()

    @staticmethod
    def _metrics(measured: Sequence[Measures], norms: Sequence[float], limit: float) -> dict[str, float]:
        """Means over the optimizer steps (of the loss and the norm) and over the tokens (of the rest)."""
        values = Measures.merged(measured).metrics()
        if not values:
            return {}
        steps = max(len(norms), 1)
        clipped = [min(norm, limit) for norm in norms]
        return values | {"loss": values["loss"] / steps, "grad_norm": sum(norms) / steps, "grad_norm_clipped": sum(clipped) / steps}


class _Sitting:
    """One call of `run`: what has been measured and taken so far."""

    def __init__(
        self, updater: Updater, passes: Passes, report: Callable[[int, int], None], relief: Relief | None, witness: Witness | None,
        entropy: FixedEntropy | AdaptiveEntropy,
    ) -> None:
        self.updater, self.passes, self.report, self.relief, self.witness = updater, passes, report, relief, witness
        self.entropy = entropy
        self.measured: list[Measures] = []
        self.mismatch: dict[str, float] = {}
        self.norms: list[float] = []
        self.skipped: list[Skipped] = []
        self.done = 0

    def anchor(self) -> None:
        """Old log-probs of every micro-batch whose turn comes after the weights have moved; those of the first step need no pass."""
        for number in range(1, len(self.passes.minibatches)):
            self.passes.anchors[number] = tuple(self._without_running_out(number, self._current))

    def rehearse(self) -> None:
        """The gradient of the first minibatch, which nothing is done with."""
        self._without_running_out(0, self._accumulated)
        self.updater.optimizer.zero_grad(set_to_none=True)

    def take(self, number: int) -> None:
        """One optimizer step."""
        step = self.passes.minibatches[number]
        found = self._without_running_out(number, self._accumulated)
        parts, self.passes.anchors[number] = [part for part, _ in found], tuple(anchors for _, anchors in found)
        self.measured += parts
        if found and not self.norms:
            self._look(parts, is_on_policy=not step.is_stale)
        if ranks.total_of(len(found)) and not self._stepped(parts):  # a rank without rows goes on, for the others wait for its gradient
            return
        if step.entropy is not None:
            self.entropy = self.entropy.after(step.entropy)

    def _look(self, parts: Sequence[Measures], *, is_on_policy: bool) -> None:
        """While the weights have not moved."""
        if is_on_policy:  # old log-probs that are the sampler's would hide any gap
            self.mismatch = self._gap()
        if self.witness is not None:
            self.witness.first_step(Measures.merged(parts), self.mismatch if is_on_policy else {}, is_on_policy=is_on_policy)

    def _stepped(self, parts: Sequence[Measures]) -> bool:
        """Take the step that the gradients are ready for; False if something was not finite."""
        updater = self.updater
        try:
            norm = clip_and_step(updater.optimizer, max_grad_norm=updater.max_grad_norm, watched=Measures.merged(parts).watched())
        except NotFinite as error:
            self.skipped.append(Skipped(what=error.what, weights=tuple(_broken(updater.policy))))
            updater.optimizer.zero_grad(set_to_none=True)
            return False
        except (RuntimeError, MemoryError) as error:  # boundary: an optimizer whose memory ran out may have moved some weights
            if self.relief is None or not is_out_of_memory(error):
                raise
            words = str(error)
        else:
            self.norms += [norm] if norm else []
            return True
        raise self.relief.stop("taking the optimizer's step", words)

    def _without_running_out(
        self, number: int, work: Callable[[Microbatch, Anchors | None, bool], Found]
    ) -> list[Found]:
        """What `work` makes of every micro-batch of a minibatch; cut smaller, and all of them anew, where memory ran out."""
        while True:
            found: list[Found] = []
            is_on_policy = not self.norms and not self.passes.minibatches[number].is_stale
            try:
                for batch, anchors in self.passes.of(number):
                    found.append(work(batch, anchors, is_on_policy))
                return found
            except (RuntimeError, MemoryError) as error:  # boundary: an allocator raises kinds of its own
                if self.relief is None or not is_out_of_memory(error):
                    raise
                words = str(error)
            batch = self.passes.minibatches[number].batches[len(found)]
            found.clear()
            self.updater.optimizer.zero_grad(set_to_none=True)
            self.passes.cut(self.relief.smaller(batch, words), self.updater.policy.device)

    def _accumulated(self, batch: Microbatch, anchors: Anchors | None, is_on_policy: bool) -> tuple[Measures, Anchors]:
        updater = self.updater
        found = accumulate(
            updater.policy, batch, updater.objective, temperature=updater.temperature, anchors=anchors, is_on_policy=is_on_policy,
            entropy_coef=self.entropy.applied,
        )
        self.done += 1
        self.report(self.done, sum(len(each.batches) for each in self.passes.minibatches) * updater.num_iterations)
        return found

    def _current(self, batch: Microbatch, anchors: Anchors | None, is_on_policy: bool) -> Anchors:
        return Anchors(old=current_logprobs(self.updater.policy, batch, temperature=self.updater.temperature))

    def _gap(self) -> dict[str, float]:
        """How far sampler and trainer are apart: over every batch whose old log-probs are the trainer's."""
        known = [
            (anchors.old, batch.sampler_logprobs) for number in range(len(self.passes.minibatches))
            for batch, anchors in self.passes.of(number) if anchors is not None and anchors.old is not None
        ]
        trainer, sampler = (torch.cat(parts) for parts in zip(*known, strict=True))
        marks = Measures.merged(self.measured).marks
        raw, bounded = (torch.cat(marks[name]) if name in marks else None for name in ("importance_raw", "importance"))
        return mismatch_statistics(trainer, sampler, raw=raw, bounded=bounded)


def _broken(policy: Policy) -> list[str]:
    """Weights whose gradient is not finite."""
    return [name for name, weight in policy.trainable() if weight.grad is not None and not bool(weight.grad.isfinite().all())]
