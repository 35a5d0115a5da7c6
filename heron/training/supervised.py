"""Supervised fine-tuning: raise the log-prob of what was demonstrated.

The one hard idea: it is the path of reinforcement learning, samples packed as trees and log-probs without logits, with a simpler loss.
Every trained token of a step weighs the same, and the weight is counted before the step is cut into micro-batches; so where it is cut
does not matter.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from heron.errors import GuardStop
from heron.models.policy import Policy
from heron.training.batch import Microbatch, pack
from heron.training.interrupt import StopRequest
from heron.training.samples import Sample

Progress = Callable[[int, int], None]
"""Called with the steps that are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long and how hard to learn. Example: `Course(steps=100, batch_size=16, learning_rate=2e-4, seed=0)`."""

    steps: int
    """Optimizer steps."""
    batch_size: int
    """Samples of a step."""
    learning_rate: float
    """At its peak."""
    seed: int
    """Decides the order."""
    micro_batch_tokens: int = 1 << 30
    """Packed tokens of a forward pass."""
    recomputes: bool = True
    """The modules are in training mode, in which they can recompute activations, and compiled kernels stand back."""


def fit(
    policy: Policy, samples: Sequence[Sample], optimizer: torch.optim.Optimizer, course: Course, on_progress: Progress,
    stop: StopRequest | None = None,
) -> int:
    """Take the steps, or those until `stop` is set; returns how many."""
    policy.model.train(course.recomputes)
    done = 0
    for done, batch in enumerate(_batches(samples, course), start=1):
        accumulate(policy, batch, budget=course.micro_batch_tokens)
        _step(policy, optimizer, *one_cycle(done, course.steps, course.learning_rate))
        on_progress(done, course.steps)
        if stop is not None and stop.is_set:
            break
    policy.model.eval()
    return done


def accumulate(policy: Policy, batch: Sequence[Sample], *, budget: int) -> float:
    """Add the gradient of the mean loss over a batch's trained tokens; returns the loss."""
    tokens = sum(sum(sample.is_trained) for sample in batch)
    total = 0.0
    for micro in _micro_batches(policy, batch, budget):
        loss = _loss(policy, micro, tokens)
        loss.backward()
        total += float(loss.detach())
    return total


@torch.no_grad()
def mean_loss(policy: Policy, samples: Sequence[Sample], *, budget: int) -> float:
    """Mean of `-log p` over all trained tokens, in nats."""
    tokens = sum(sum(sample.is_trained) for sample in samples)
    return sum(float(_loss(policy, micro, tokens)) for micro in _micro_batches(policy, samples, budget))


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and beta1 of 1-based `step`: up to the peak over a tenth of the steps and down to a 500th of it, along cosines.

    Momentum goes the other way (arXiv 1708.07120).
    """
    top = 0.1 * steps - 1  # where the peak stands, counted from 0
    place = step - 1
    if place <= top:
        share, low, high = place / top if top else 1.0, peak / 25.0, peak
        return _between(low, high, share), _between(0.95, 0.85, share)
    share = (place - top) / (steps - 1 - top) if steps > 1 else 0.0  # a single step is taken at the peak
    return _between(peak, peak / 25.0 / 20.0, share), _between(0.85, 0.95, share)


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def _step(policy: Policy, optimizer: torch.optim.Optimizer, rate: float, beta: float) -> None:
    """Clip, take the step, clear. A gradient that is not finite takes none."""
    norm = float(torch.nn.utils.clip_grad_norm_([weight for _, weight in policy.trainable()], 1.0))
    if not math.isfinite(norm):
        raise GuardStop(f"The gradient's norm is {norm} in the warm-up: this step was not taken. Lower warmup.learning_rate.")
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (beta, *group["betas"][1:])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _loss(policy: Policy, micro: Microbatch, tokens: int) -> torch.Tensor:
    """A micro-batch's share of the mean over so many tokens."""
    hidden = policy.hidden(micro.token_ids, micro.positions, micro.plan)
    logprobs, _ = policy.logprobs(hidden[0].index_select(0, micro.where), micro.targets, temperature=1.0)
    return -logprobs.sum() / tokens


def _micro_batches(policy: Policy, samples: Sequence[Sample], budget: int) -> list[Microbatch]:
    """Samples that begin with the same token are one group, so that what they all begin with is packed once."""
    groups: dict[tuple[int, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.prompt_ids, []).append(sample)
    return pack(list(groups.values()), budget=budget, device=policy.device)


def _batches(samples: Sequence[Sample], course: Course) -> Iterator[list[Sample]]:
    """`steps` batches; every epoch in a new order."""
    draw = random.Random(course.seed)
    queue: list[int] = []
    for _ in range(course.steps):
        while len(queue) < course.batch_size:
            queue += draw.sample(range(len(samples)), len(samples))
        yield [samples[index] for index in queue[: course.batch_size]]
        del queue[: course.batch_size]
