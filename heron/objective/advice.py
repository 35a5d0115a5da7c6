"""What a run should hear before it starts: settings that are legal and probably not what was meant.

Each warning says what happens, and which setting would be better. What is wrong outright is a ConfigError, from the loss's own check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heron.objective.corrections import Correction
from heron.objective.loss import Loss

OPTIONAL_SETTINGS = ("epsilon_high", "delta")
"""Settings that are None unless someone asked for them."""
GEOMETRIC_HIGH = 1.1
"""A geometric mean of ratios far above this bound has no business in a filter."""


def advice(
    loss: Loss, settings: Mapping[str, Any], level: str = "token", *, correction: Correction | None = None, beta: float = 0.0,
    kl_estimator: str = "k3", use_bias_correction_kl: bool = False,
) -> list[str]:
    """Warnings about a loss, its settings and what stands beside it. Raises ConfigError for what must not be."""
    loss.arguments(settings)
    level = loss.level or level
    found = loss.check(settings, level) if loss.check else []
    found += _about_level(loss, level)
    found += _about_unused_settings(loss, settings)
    found += _about_correction(loss, correction)
    if beta > 0 and use_bias_correction_kl:
        found += _about_bias_correction(kl_estimator, level)
    return found


def _about_level(loss: Loss, level: str) -> Iterator[str]:
    if level == "sequence" and loss.weights in ("tokens", "local_tokens", "constant"):
        yield (f"With the ratio of the sequence, {loss.name} counts each row by its length: all tokens of a row have the same loss, and "
               'each is counted. GSPO counts rows the same: set objective.loss_type = "gspo". luspo counts by length on purpose.')


def _about_unused_settings(loss: Loss, settings: Mapping[str, Any]) -> Iterator[str]:
    for name in OPTIONAL_SETTINGS:
        if settings.get(name) is not None and name not in loss.parameters:
            yield f"objective.{name} = {settings[name]:g} has no effect with the loss {loss.name}. Leave it out."


def _about_correction(loss: Loss, correction: Correction | None) -> Iterator[str]:
    if correction is None:
        return
    if correction.level == "token" and loss.name in ("gmpo", "rloo"):
        yield (f"{loss.name} has one loss per row, so a token's correction only changes how much its row counts. Choose a sequence_ or "
               "geometric_ correction in objective.importance_sampling_correction.")
    if correction.level == "geometric" and correction.bound == "mask" and correction.limits[1] > GEOMETRIC_HIGH:
        yield (f"geometric_mask looks at the mean ratio per token, which no row brings near {correction.limits[1]:g}: nothing would be "
               "filtered. Common bounds are objective.importance_sampling_clip_min = 0.999 and importance_sampling_clip_max = 1.001.")


def _about_bias_correction(kl_estimator: str, level: str) -> Iterator[str]:
    if kl_estimator == "k2":
        yield ("k2 has the gradient of KL(policy, reference) by itself; with objective.use_bias_correction_kl it has another one. Leave "
               "that out, or choose k3.")
    if level == "sequence":
        yield ("objective.use_bias_correction_kl multiplies each token's KL by the ratio of its whole row, which is biased: the exact "
               "correction is the token's own ratio.")
