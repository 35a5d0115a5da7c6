"""Off-policy corrections: what to do where the sampler's log-probs are not the trainer's.

    d[t] = policy - sampler, 0 where the sampler reported none       rho = exp of d[t] | sum over the row | mean over the row
    truncate: clamp(rho, low, high)        mask: rho within [low, high], else 0

    token_truncate TIS          token_mask IcePop (2510.18855), token-MIS      sequence_truncate Seq-TIS     sequence_mask MIS
    geometric_truncate          geometric_mask: a filter, rho := 1 within [low, high], else 0

rho is a constant: no gradient flows through it. Masked tokens stay in every denominator, which is the plain importance-sampling
estimator. A ratio over a *sequence* is a product: a gap of 0.01 nats per token reaches e after a hundred tokens, so bounds near 3 drop
long rows; `token` and `geometric` do not know that trap. What it leaves out: engines; the native one has nothing to correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from heron.errors import ConfigError, did_you_mean
from heron.objective.kl import k3
from heron.objective.tokens import Segments, Tokens, importance_ratio

LEVELS = ("token", "sequence", "geometric")
BOUNDS = ("truncate", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A ratio of trainer to sampler, and what bounds it."""

    level: str
    """`token`, `sequence` (the product over the row) or `geometric` (its geometric mean)."""
    bound: str
    """`truncate` clamps, `mask` leaves out."""
    low: float | None = None
    """Lower bound; None: none."""
    high: float | None = 3.0
    """Upper bound; None: none."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS or self.bound not in BOUNDS:
            raise ConfigError(f"There is no correction of level {self.level!r} and bound {self.bound!r}. "
                              f"Levels are {', '.join(LEVELS)}; bounds are {', '.join(BOUNDS)}.")
        if self.low is None and self.high is None:
            raise ConfigError("A correction without bounds lets a single ratio decide the gradient. Give "
                              "objective.importance_sampling_clip_max, such as 3.0.")
        low, high = self.limits
        if not 0 <= low < high:
            raise ConfigError("objective.importance_sampling_clip_min must be at least 0 and below importance_sampling_clip_max, "
                              f"but they are {self.low} and {self.high}.")

    @property
    def limits(self) -> tuple[float, float]:
        """Both bounds as numbers."""
        return 0.0 if self.low is None else self.low, float("inf") if self.high is None else self.high

    @property
    def is_per_row(self) -> bool:
        """True if all tokens of a row share one ratio."""
        return self.level != "token"

    @torch.no_grad()
    def ratio(self, policy_logprobs: Tensor, sampler_logprobs: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """`[N]` before and `[N]` after the bound, constants."""
        gap = _gap(policy_logprobs, sampler_logprobs)
        if self.is_per_row:
            gap = segments.spread(segments.sum(gap) if self.level == "sequence" else segments.mean(gap))
        raw = importance_ratio(gap)
        return raw, self._bounded(raw)

    def _bounded(self, raw: Tensor) -> Tensor:
        low, high = self.limits
        if self.bound == "truncate":
            return raw.clamp(low, high)
        inside = (raw >= low) & (raw <= high)
        return inside.to(raw.dtype) if self.level == "geometric" else raw * inside


CORRECTIONS: Mapping[str, tuple[str, str]] = MappingProxyType({f"{level}_{bound}": (level, bound) for level in LEVELS for bound in BOUNDS})
"""Level and bound by the name in `objective.importance_sampling_correction`."""


def find_correction(name: str, *, low: float | None = None, high: float | None = 3.0) -> Correction | None:
    """A correction by name; None for `none`."""
    if name == "none":
        return None
    if name not in CORRECTIONS:
        raise ConfigError(f"There is no correction {name!r}.{did_you_mean(name, CORRECTIONS)} There are none, {', '.join(CORRECTIONS)}.")
    level, bound = CORRECTIONS[name]
    return Correction(level=level, bound=bound, low=low, high=high)


@torch.no_grad()
def off_policy_keep(tokens: Tokens, threshold: float) -> Tensor:
    """`[N]` 1 or 0, one value per row: leave out rows with A < 0 that the policy has left (OPSM, DeepSeek-V3.2 eq. 9, 2512.02556).

    A row is kept if A >= 0 or if mean(sampler - lp) <= threshold; without a sampler's log-probs those of the old policy stand in.
    """
    behaviour = tokens.old_logprobs if tokens.sampler_logprobs is None else tokens.sampler_logprobs
    left = tokens.spread(tokens.row_mean(-_gap(tokens.logprobs, behaviour)))  # [N] nats per token
    return ((tokens.advantages >= 0) | (left <= threshold)).to(tokens.logprobs.dtype)


@torch.no_grad()
def mismatch_statistics(
    policy_logprobs: Tensor, sampler_logprobs: Tensor, *, raw: Tensor | None = None, bounded: Tensor | None = None
) -> dict[str, float]:
    """How far sampler and trainer are apart, for the log, over the tokens `[N]` of a step that the sampler reported.

    `k3` estimates KL(sampler, trainer) in nats per token. Of a correction's ratios: mean, least and greatest before and after the
    bound, the share that the bound set to 0, and the effective sample size (sum rho)^2 / (N sum rho^2) of what is left.
    """
    known = ~sampler_logprobs.isnan()
    policy, sampler = policy_logprobs[known].double(), sampler_logprobs[known].double()
    gap = (policy - sampler).abs()
    found = {"logp_difference_mean": _mean(gap), "logp_difference_max": _max(gap), "k3": _mean(k3(sampler, policy)),
             "unscored": 1 - _mean(known.double()) if known.numel() else 0.0}
    for name, ratio in (("raw", raw), ("bounded", bounded)):
        found |= {} if ratio is None or not ratio.numel() else {
            f"importance_{name}/mean": _mean(ratio.double()), f"importance_{name}/min": float(ratio.min()),
            f"importance_{name}/max": float(ratio.max()),
        }
    if bounded is not None and bounded.numel():
        found |= {"masked": _mean((bounded == 0).double()), "ess": effective_sample_size(bounded)}
    return {f"sampling/{name}": value for name, value in found.items()}


def effective_sample_size(weights: Tensor) -> float:
    """(sum w)^2 / (n sum w^2): 1 if all weigh the same, 1/n if one has all the weight, 0 if nothing is left."""
    values = weights.double()
    total = float(values.square().sum()) * values.numel()
    return float(values.sum()) ** 2 / total if total else 0.0


def _gap(policy_logprobs: Tensor, sampler_logprobs: Tensor) -> Tensor:
    """`[N]` policy - sampler; 0 where the sampler reported no log-prob, so that the token corrects nothing."""
    gap = policy_logprobs - sampler_logprobs
    return torch.where(sampler_logprobs.isnan(), torch.zeros_like(gap), gap)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0


def _max(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0
