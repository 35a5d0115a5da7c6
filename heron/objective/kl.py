"""Estimates of the KL of the policy from the reference, token by token (Schulman, "Approximating KL Divergence", 2020).

    D = ref - lp        k1 = -D        k2 = D^2 / 2        k3 = exp(D) - D - 1  (never negative)

The one hard idea: what is good to report need not be good to descend. Under tokens of the policy itself, the gradient of k1 is zero in
expectation, that of k2 is the gradient of KL(policy, ref), and that of k3 is the gradient of KL(ref, policy). Multiplied by the
importance ratio, with its gradient, k1 and k3 both have the gradient of KL(policy, ref), off-policy too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from heron.errors import ConfigError


def k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """`[N]` unbiased, of either sign."""
    return logprobs - reference_logprobs


def k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """`[N]` biased, never negative."""
    return (reference_logprobs - logprobs).square() / 2


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """`[N]` unbiased, never negative, and of less variance than k1."""
    difference = reference_logprobs - logprobs
    return torch.exp(difference) - difference - 1


KL_ESTIMATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType({"k1": k1, "k2": k2, "k3": k3})
"""By the name in `objective.kl_estimator`."""


def check_kl(estimator: str, *, beta: float, is_corrected: bool) -> None:
    """Refuse what is no estimator, and k1 where it cannot move anything."""
    if estimator not in KL_ESTIMATORS:
        raise ConfigError(f"There is no KL estimator {estimator!r}. There are {', '.join(KL_ESTIMATORS)}; k3 is the usual one.")
    if not beta >= 0:
        raise ConfigError(f"objective.beta must not be negative, but it is {beta}. 0 switches the KL off.")
    if estimator == "k1" and beta > 0 and not is_corrected:
        raise ConfigError('objective.kl_estimator = "k1" has no gradient in expectation, so a beta of '
                          f"{beta:g} would add noise and nothing else. Set objective.use_bias_correction_kl = true, or choose k2 or k3.")
