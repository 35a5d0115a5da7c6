"""One optimizer step on packed micro-batches: forward, loss, backward, clip, step. The mathematics of training, and no policy.

The loss of the step is `sum over all trained tokens of weight * (surrogate + beta * k3)`; gradients are summed over micro-batches.
`old` is the policy before its first step on these rollouts, so the ratio is exactly 1 on the first pass. What it leaves out:
which rollouts to train on, and when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.config.schema import ObjectiveConfig
from heron.errors import GuardStop
from heron.models.policy import Policy
from heron.objective import clipped_surrogate, k3
from heron.training.batch import Microbatch


@dataclass(slots=True)
class UpdateStats:
    """Sums over the trained tokens of one optimizer step; `metrics` makes means of them."""

    tokens: float = 0.0
    loss: float = 0.0
    kl: float = 0.0
    clipped_low: float = 0.0
    clipped_high: float = 0.0
    gap_sum: float = 0.0
    gap_max: float = 0.0
    ratio_max: float = 0.0
    grad_norm: float = 0.0

    def metrics(self, *, with_kl: bool) -> dict[str, float]:
        """Per-token means under the field's names; nothing where no token was trained."""
        if not self.tokens:
            return {}
        count = self.tokens
        values = {
            "loss": self.loss, "grad_norm": self.grad_norm, "ratio/max": self.ratio_max,
            "clip_ratio/low_mean": self.clipped_low / count, "clip_ratio/high_mean": self.clipped_high / count,
            "sampling/logp_difference_mean": self.gap_sum / count, "sampling/logp_difference_max": self.gap_max,
        }
        return values | ({"kl": self.kl / count} if with_kl else {})


def accumulate(
    policy: Policy, batch: Microbatch, objective: ObjectiveConfig, *, temperature: float, old_logprobs: Tensor | None
) -> tuple[UpdateStats, Tensor]:
    """Add one micro-batch's gradient to the weights' `.grad`.

    Args:
        policy: whose weights get the gradient.
        batch: packed tokens, with weights that already count the whole step.
        objective: epsilon, epsilon_high, delta, beta.
        temperature: the sampler's.
        old_logprobs: `[N]` from the first pass over these rollouts, or None on the first pass.

    Returns:
        What was measured, and the log-probs `[N]` of this pass.
    """
    hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)  # [1, T, D]
    logprobs, _ = policy.logprobs(hidden[0].index_select(0, batch.where), batch.targets, temperature=temperature)  # [N]
    seen = logprobs.detach()
    token = clipped_surrogate(
        logprobs, seen if old_logprobs is None else old_logprobs, batch.advantages,
        epsilon=objective.epsilon, epsilon_high=objective.epsilon_high, delta=objective.delta,
    )
    loss = token.loss
    kl = torch.zeros_like(seen)
    if objective.beta > 0:
        reference = policy.reference_logprobs(
            batch.token_ids, batch.positions, batch.plan, batch.where, batch.targets, temperature=temperature
        )
        divergence = k3(logprobs, reference)  # [N]
        loss, kl = loss + objective.beta * divergence, divergence.detach()
    total = (batch.weights * loss).sum()
    total.backward()
    gap = (seen - batch.sampler_logprobs).abs() if old_logprobs is None else torch.zeros_like(seen)
    return _stats(total, kl, token.clipped_low, token.clipped_high, gap, token.ratio), seen


def _stats(total: Tensor, kl: Tensor, low: Tensor, high: Tensor, gap: Tensor, ratio: Tensor) -> UpdateStats:
    """All measurements of a micro-batch in one transfer from the device."""
    values = torch.stack([
        total.detach().double(), kl.sum().double(), low.sum().double(), high.sum().double(),
        gap.sum().double(), gap.max().double(), ratio.max().double(),
    ]).tolist()
    return UpdateStats(len(kl), *values)


def merge(parts: Sequence[UpdateStats]) -> UpdateStats:
    """The measurements of one optimizer step from those of its micro-batches."""
    whole = UpdateStats()
    for part in parts:
        for name in ("tokens", "loss", "kl", "clipped_low", "clipped_high", "gap_sum"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        whole.gap_max = max(whole.gap_max, part.gap_max)
        whole.ratio_max = max(whole.ratio_max, part.ratio_max)
    return whole


def clip_and_step(optimizer: torch.optim.Optimizer, *, max_grad_norm: float) -> float:
    """Clip the gradient, take the step, clear the gradient; returns the norm before clipping. Stops on a non-finite one."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    norm = float(torch.nn.utils.clip_grad_norm_(weights, max_grad_norm))
    if not math.isfinite(norm):
        raise GuardStop(f"The gradient's norm is {norm}: this optimizer step was not taken. "
                        "Lower train.learning_rate, or look at the last rollouts for what made it.")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
