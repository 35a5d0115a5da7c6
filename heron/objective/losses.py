"""The surrogates by name, each with its formula and paper. `l` is minimised; w ratio, A advantage, lp log-prob, sg stop-gradient.

    grpo bnpo dr_grpo dapo luspo gspo   -min(min(w, delta) A, clip(w, 1 - epsilon, 1 + epsilon_high) A)     one clip, other weights
    cispo                               -sg(min(w, epsilon_high)) A lp
    sapo                                -(4 / tau) sigmoid(tau (w - 1)) A
    vespo                               -phi(w of the whole row) A lp
    gmpo                                -(geometric mean of the clipped ratios of the row) A
    rloo                                the clip on the product of the row's ratios
    reinforce                           -A lp

What it leaves out: weights, masks, corrections and the KL, which are the same for all of them (`heron.objective.objective`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from heron.errors import ConfigError, did_you_mean
from heron.objective.loss import Loss, Surrogate, register_loss
from heron.objective.tokens import LOG_RATIO_BOUND, LossInputs, importance_ratio
from heron.userfile import is_in_file, load_attribute

LOG_SMALLEST = math.log(1e-8)
"""vespo's lower bound on the log of a sequence's ratio."""


def find_loss(name: str) -> Loss:
    """A built-in loss, or your own as `path/file.py:function`."""
    if is_in_file(name):
        return _from_file(name)
    if name not in LOSSES:
        raise ConfigError(f"There is no loss {name!r}.{did_you_mean(name, LOSSES)} Built in are {', '.join(LOSSES)}; "
                          "your own is named by its file, as in losses.py:my_loss.")
    return LOSSES[name]


def _from_file(name: str) -> Loss:
    found = load_attribute(name, purpose="a loss")
    if not isinstance(found, Loss):
        raise ConfigError(f'{name} is no loss. Put @register_loss(weights="tokens") above the function; '
                          "it is imported from heron.objective, and its weights are one of the schemes of docs/objective.md.")
    return found


def _check_clip(settings: Mapping[str, Any], level: str) -> list[str]:
    high = _high(settings["epsilon"], settings.get("epsilon_high"))
    delta = settings.get("delta")
    if delta is not None and delta <= 1 + high:
        raise ConfigError(f"objective.delta must exceed 1 + epsilon_high, but it is {delta:g} with epsilon_high {high:g}: it would clip "
                          f"what the upper clip leaves alone. Choose more than {1 + high:g}, or leave it out.")
    return []


@register_loss(weights="row_mean", check=_check_clip)
def grpo(inputs: LossInputs, *, epsilon: float, epsilon_high: float | None = None, delta: float | None = None) -> Surrogate:
    """PPO's clip (1707.06347). epsilon_high: DAPO (2503.14476). delta caps the ratio where A < 0 (1912.09729, 2505.07291)."""
    return _clip(inputs.ratio, inputs.advantages, epsilon=epsilon, epsilon_high=epsilon_high, delta=delta)


def _clip(ratio: Tensor, advantages: Tensor, *, epsilon: float, epsilon_high: float | None, delta: float | None = None) -> Surrogate:
    high = _high(epsilon, epsilon_high)
    capped = ratio if delta is None else ratio.clamp(max=delta)
    loss = -torch.minimum(capped * advantages, ratio.clamp(1 - epsilon, 1 + high) * advantages)
    return Surrogate(loss=loss, marks=_clip_marks(ratio < 1 - epsilon, ratio > 1 + high, advantages))


def _clip_marks(is_low: Tensor, is_high: Tensor, advantages: Tensor) -> dict[str, Tensor]:
    """Where the clip takes the gradient away: below it for negative, above it for positive advantages."""
    low, high = is_low & (advantages < 0), is_high & (advantages > 0)
    return {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low | high}


def _high(epsilon: float, epsilon_high: float | None) -> float:
    return epsilon if epsilon_high is None else epsilon_high


def _check_luspo(settings: Mapping[str, Any], level: str) -> list[str]:
    warning = ('luspo multiplies each row by its length on purpose, which its paper does with the ratio of the whole sequence. Set '
               'objective.importance_sampling_level = "sequence".')
    return _check_clip(settings, level) + ([] if level == "sequence" else [warning])


def _check_cispo(settings: Mapping[str, Any], level: str) -> list[str]:
    high = settings.get("epsilon_high")
    if high is None or high < 1:
        given = "not set" if high is None else f"{high:g}"
        raise ConfigError(f"With cispo, objective.epsilon_high is the greatest ratio itself, not its distance from 1, but it is {given}: "
                          "every on-policy gradient would be scaled down. Set it to 5.0 (ScaleRL); it must be at least 1.")
    return []


@register_loss(weights="tokens", check=_check_cispo)
def cispo(inputs: LossInputs, *, epsilon_high: float) -> Surrogate:
    """The capped ratio is a constant weight, so no token loses its gradient (MiniMax-M1 2506.13585; ScaleRL 2510.13786)."""
    capped = inputs.ratio.detach().clamp(max=epsilon_high)
    is_capped = (inputs.ratio > epsilon_high) & (inputs.advantages > 0)
    return Surrogate(loss=-capped * inputs.advantages * inputs.logprobs, marks={"clip_ratio/high_mean": is_capped})


@register_loss(weights="row_mean")
def sapo(inputs: LossInputs, *, sapo_temperature_pos: float = 1.0, sapo_temperature_neg: float = 1.05) -> Tensor:
    """A soft gate in the place of the clip; steeper for negative advantages (2511.20347)."""
    tau = _by_sign(inputs.advantages > 0, sapo_temperature_pos, sapo_temperature_neg, like=inputs.ratio)
    return -(4 / tau) * torch.sigmoid(tau * (inputs.ratio - 1)) * inputs.advantages


@register_loss(weights="tokens", level="token", includes_importance=True)
def vespo(
    inputs: LossInputs, *, vespo_k_pos: float = 2.0, vespo_lambda_pos: float = 3.0, vespo_k_neg: float = 3.0, vespo_lambda_neg: float = 2.0,
) -> Surrogate:
    """REINFORCE, weighted by a smooth bump phi(W) = W^k exp(lambda (1 - W)) of the whole row's ratio W (2602.10693)."""
    log_ratio = _log_sequence_ratio(inputs).clamp(LOG_SMALLEST, LOG_RATIO_BOUND)  # [N]
    positive = inputs.advantages >= 0
    k = _by_sign(positive, vespo_k_pos, vespo_k_neg, like=log_ratio)
    lam = _by_sign(positive, vespo_lambda_pos, vespo_lambda_neg, like=log_ratio).clamp(min=1e-4)
    phi = torch.exp(lam + k * log_ratio - lam * log_ratio.exp()).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return Surrogate(loss=-phi * inputs.advantages * inputs.logprobs, marks={"vespo/phi_mean": phi})


def _by_sign(positive: Tensor, above: float, below: float, *, like: Tensor) -> Tensor:
    """`[N]` one of two numbers, in the precision of `like`; `torch.where` of two numbers would round both to float32."""
    return torch.full_like(like, below).masked_fill(positive, above)


def _log_sequence_ratio(inputs: LossInputs) -> Tensor:
    """`[N]` log of current policy over sampler, of the whole row, constant."""
    total = inputs.row_sum(inputs.log_ratio.detach().clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND))  # [B]
    if inputs.importance is not None:
        log_rho = inputs.importance.log().clamp(LOG_SMALLEST, LOG_RATIO_BOUND)
        total = total + (inputs.row_mean(log_rho) if inputs.importance_is_per_row else inputs.row_sum(log_rho))
    return inputs.spread(total)


def _check_gmpo(settings: Mapping[str, Any], level: str) -> list[str]:
    epsilon = settings["epsilon"]
    if max(epsilon, _high(epsilon, settings.get("epsilon_high"))) >= 0.3:
        return []
    return [f"gmpo clips the log of the ratio to +-epsilon, and epsilon is {epsilon:g}; its paper uses 0.4 (ratios from 0.67 to 1.49). "
            "Set objective.epsilon = 0.4."]


@register_loss(weights="row_mean", level="token", includes_keep=True, check=_check_gmpo)
def gmpo(inputs: LossInputs, *, epsilon: float, epsilon_high: float | None = None) -> Surrogate:
    """Geometric mean over the row of the ratios, clipped in the log (2507.20673). `keep` decides which tokens it is the mean of."""
    high, log_ratio = _high(epsilon, epsilon_high), inputs.log_ratio
    clipped = log_ratio.clamp(-epsilon, high)
    pessimistic = torch.where(inputs.advantages > 0, torch.minimum(log_ratio, clipped), torch.maximum(log_ratio, clipped))
    kept = torch.ones_like(log_ratio) if inputs.keep is None else inputs.keep.to(log_ratio.dtype)
    mean = inputs.row_sum(pessimistic * kept) / inputs.row_sum(kept).clamp(min=1)  # [B]
    loss = -inputs.spread(importance_ratio(mean)) * inputs.advantages
    return Surrogate(loss=loss, marks=_clip_marks(log_ratio < -epsilon, log_ratio > high, inputs.advantages))


@register_loss(weights="row_mean", level="token", check=_check_clip)
def rloo(inputs: LossInputs, *, epsilon: float, epsilon_high: float | None = None) -> Surrogate:
    """The clip on the product of the row's ratios: the row is one action (Back to Basics, 2402.14740)."""
    ratio = inputs.spread(importance_ratio(inputs.row_sum(inputs.log_ratio)))  # [N]
    return _clip(ratio, inputs.advantages, epsilon=epsilon, epsilon_high=epsilon_high)


@register_loss(weights="tokens", level="token", corrects_current=True)
def reinforce(inputs: LossInputs) -> Tensor:
    """The policy gradient itself (Williams, 1992); exact on-policy, and with an off-policy correction pure importance sampling."""
    return -inputs.advantages * inputs.logprobs


LOSSES: Mapping[str, Loss] = MappingProxyType({
    "grpo": grpo,
    "bnpo": replace(grpo, name="bnpo", weights="local_tokens"),
    "dr_grpo": replace(grpo, name="dr_grpo", weights="constant"),
    "dapo": replace(grpo, name="dapo", weights="tokens"),
    "luspo": replace(grpo, name="luspo", weights="row_sum", check=_check_luspo),
    "gspo": replace(grpo, name="gspo", level="sequence"),
    "cispo": cispo,
    "sapo": sapo,
    "vespo": vespo,
    "gmpo": gmpo,
    "reinforce": reinforce,
    "rloo": rloo,
})
"""The losses that can be named in a config."""
