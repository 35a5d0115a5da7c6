"""From the section `objective` to the functions that it names, and what a run has to know of them."""

from __future__ import annotations

import torch

from heron.config.objective import ObjectiveConfig
from heron.objective import AdaptiveEntropy, FixedEntropy, Objective, Tokens, find_correction, find_loss

SETTINGS = (
    "epsilon", "epsilon_high", "delta", "sapo_temperature_pos", "sapo_temperature_neg",
    "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
)
"""Settings that a loss may ask for by name."""


def objective_of(config: ObjectiveConfig) -> Objective:
    """The objective that a config names; a ConfigError where a loss and its settings do not fit."""
    return Objective(
        loss=find_loss(config.loss_type), level=config.importance_sampling_level,
        settings={name: getattr(config, name) for name in SETTINGS},
        beta=config.beta, kl_estimator=config.kl_estimator, use_bias_correction_kl=config.use_bias_correction_kl,
        correction=find_correction(
            config.importance_sampling_correction, low=config.importance_sampling_clip_min, high=config.importance_sampling_clip_max,
        ),
        off_policy_mask_threshold=config.off_policy_mask_threshold,
    )


def entropy_bonus_of(config: ObjectiveConfig) -> FixedEntropy | AdaptiveEntropy:
    """The entropy bonus of the first optimizer step."""
    if not config.use_adaptive_entropy:
        return FixedEntropy(coef=config.entropy_coef)
    return AdaptiveEntropy(
        coef=config.entropy_coef, low=config.entropy_coef_min, high=config.entropy_coef_max, delta=config.entropy_coef_delta,
        target=config.entropy_target,
    )


def moves_without_advantage(objective: Objective) -> bool:
    """Whether rollouts with advantage 0 must be trained on all the same: true of a KL, and of a loss that is not a multiple of A.

    A loss is asked, not believed: its gradient on a few tokens without advantage is 0, or it is not.
    """
    generator = torch.Generator().manual_seed(0)
    logprobs, old = -torch.rand(2, 12, generator=generator, dtype=torch.float64)  # [12] each
    logprobs.requires_grad_()
    loss = objective(Tokens(
        logprobs=logprobs, old_logprobs=old, sampler_logprobs=old, reference_logprobs=old, advantages=torch.zeros(12, dtype=torch.float64),
        rows=torch.arange(3).repeat_interleave(4), weights=torch.full((12,), 1 / 12, dtype=torch.float64),
        keep=torch.ones(12, dtype=torch.float64),
    )).loss
    if not loss.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(loss, logprobs, allow_unused=True)
    return gradient is not None and bool(gradient.any())
