"""The surrogate and the KL, token by token.

    w = exp(logp - old)                                                           importance ratio
    l = -min( min(w, delta) A,  clip(w, 1 - epsilon, 1 + epsilon_high) A )        PPO (arXiv 1707.06347); epsilon_high: DAPO
    k3 = exp(ref - logp) - (ref - logp) - 1                                       Schulman, "Approximating KL Divergence"

`delta` caps the ratio where the advantage is negative (dual clip, arXiv 1912.09729; INTELLECT-2, arXiv 2505.07291).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """What the surrogate says of every token."""

    loss: Tensor
    """`[T]`, to be weighted and summed."""
    ratio: Tensor
    """`[T]` importance ratio, detached."""
    clipped_low: Tensor
    """`[T]` bool: the lower clip is active (negative advantage, ratio below 1 - epsilon)."""
    clipped_high: Tensor
    """`[T]` bool: the upper clip is active (positive advantage, ratio above 1 + epsilon_high)."""


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
    *, epsilon: float, epsilon_high: float | None = None, delta: float | None = None,
) -> TokenLoss:
    """PPO's clipped surrogate, to be minimised.

    Args:
        logprobs: `[T]` under the policy, with gradient.
        old_logprobs: `[T]` under the policy before the update, without.
        advantages: `[T]` of each token's rollout.
        epsilon: lower clip range.
        epsilon_high: upper clip range; None means `epsilon`.
        delta: cap on the ratio for negative advantages; None means no cap.
    """
    high = epsilon if epsilon_high is None else epsilon_high
    ratio = torch.exp(logprobs - old_logprobs)
    capped = ratio if delta is None else ratio.clamp(max=delta)
    clipped = ratio.clamp(1 - epsilon, 1 + high)
    seen = ratio.detach()
    return TokenLoss(
        loss=-torch.minimum(capped * advantages, clipped * advantages), ratio=seen,
        clipped_low=(seen < 1 - epsilon) & (advantages < 0), clipped_high=(seen > 1 + high) & (advantages > 0),
    )


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Schulman's k3 estimate `[T]` of the KL of the policy from the reference, in nats; never negative."""
    difference = reference_logprobs - logprobs
    return torch.exp(difference) - difference - 1
