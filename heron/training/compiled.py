"""From the section `objective` to the functions that it names, and what a run has to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from heron.config.objective import ObjectiveConfig
from heron.objective import AdaptiveEntropy, FixedEntropy, Objective, find_correction, find_loss
from heron.objective.advice import OPTIONAL_SETTINGS

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


def advice_on(config: ObjectiveConfig, objective: Objective) -> list[str]:
    """What is allowed and probably not meant, in sentences."""
    unused = [f"objective.{name} = {value!r} has no effect {why}. Leave it out." for name, value, why in _without_effect(config, objective)]
    return [*objective.advice(), *_foot_guns(config, objective), *unused]


def _foot_guns(config: ObjectiveConfig, objective: Objective) -> Iterator[str]:
    if config.loss_type == "reinforce" and config.num_iterations * config.num_minibatches > 1:
        yield ("reinforce has no ratio to the old policy: after the first of several optimizer steps on a batch its gradient is biased. "
               "Set objective.num_iterations and num_minibatches to 1, or choose a loss with a clip.")
    if config.advantage_estimator == "max_rl" and objective.loss.weights not in ("row_sum", "constant"):
        yield ("max_rl is about whole rollouts: weights that divide by their length change what it optimises. Set objective.loss_type to "
               "luspo or dr_grpo.")
    if config.loss_type == "cispo" and config.epsilon_high is not None and config.epsilon_high < 2:
        yield (f"With cispo, objective.epsilon_high is the greatest ratio itself: {config.epsilon_high:g} cuts nearly every ratio above 1. "
               "ScaleRL uses 5.0.")


def _without_effect(config: ObjectiveConfig, objective: Objective) -> Iterator[tuple[str, Any, str]]:
    """Settings that were changed and that nothing reads: name, value, why."""
    changed = {name: value for field in fields(config) if (value := getattr(config, name := field.name)) != field.default}
    takes_one_step = config.num_iterations * config.num_minibatches == 1
    for name, value in changed.items():
        if name in SETTINGS and name not in objective.loss.parameters and name not in OPTIONAL_SETTINGS:
            yield name, value, f"with the loss {objective.loss.name}"
        elif name in ("kl_estimator", "use_bias_correction_kl") and config.beta == 0:
            yield name, value, "while beta is 0"
        elif name.startswith(("entropy_coef_", "entropy_target")) and not config.use_adaptive_entropy:
            yield name, value, "without use_adaptive_entropy"
        elif name.startswith("importance_sampling_clip") and config.importance_sampling_correction == "none":
            yield name, value, "without an importance_sampling_correction"
        elif name == "off_policy_mask_threshold" and takes_one_step:
            yield name, value, "with one optimizer step on a batch that these very weights have sampled"
