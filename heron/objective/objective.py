"""The loss of one micro-batch, from its tokens.

    loss = sum over t of  weight[t] * ( rho[t] * keep[t] * opsm[t] * l[t] + beta * k[t] )   -   c * sum over t of weight_H[t] * H[t]

l surrogate (`losses`), rho off-policy correction (`corrections`), keep top-entropy mask, opsm off-policy sequence mask, k KL estimate
(`kl`), H entropy. The one hard idea: the weights were counted over the whole optimizer step, so losses of micro-batches, and of ranks,
are *summed*. The KL and the bonus are added after the masks: they hold the policy on masked tokens, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from heron.errors import ConfigError
from heron.objective.advice import advice
from heron.objective.corrections import Correction, off_policy_keep
from heron.objective.kl import KL_ESTIMATORS, check_kl
from heron.objective.loss import LEVELS, Loss
from heron.objective.tokens import LossInputs, Tokens, importance_ratio

OWN_MARKS = frozenset({"ratio", "kl", "importance", "importance_raw", "off_policy_masked"})
"""Marks that are added to the loss's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoss:
    """Of one micro-batch."""

    loss: Tensor
    """Scalar, with gradient; its share of the optimizer step's loss."""
    marks: dict[str, Tensor]
    """`[N]` each, detached, by metric name: `ratio`, `kl`, `clip_ratio/low_mean`, `importance`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised. Example: `Objective(loss=find_loss("dapo"), settings={"epsilon": 0.2})`."""

    loss: Loss
    """The surrogate."""
    level: str = "token"
    """The ratio is that of the `token`, or of the `sequence`: exp(mean log-ratio of the row). A loss may know better."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What losses ask for by name: epsilon, epsilon_high, delta, ..."""
    beta: float = 0.0
    """Weight of the KL to the reference."""
    kl_estimator: str = "k3"
    """`k1`, `k2` or `k3`."""
    use_bias_correction_kl: bool = False
    """Multiply the estimate by the importance ratio, with its gradient (DeepSeek-V3.2, 2512.02556)."""
    correction: Correction | None = None
    """Of sampler to trainer; None: they agree."""
    off_policy_mask_threshold: float | None = None
    """Nats per token by which the policy may have left a row with A < 0; None: no such mask."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(f"objective.importance_sampling_level must be one of {', '.join(LEVELS)}, but it is {self.level!r}.")
        if self.loss.level == "token" and self.level == "sequence":
            raise ConfigError(f"{self.loss.name} makes no use of the sequence's mean ratio, so objective.importance_sampling_level must "
                              'stay "token", but it is "sequence". Leave it out.')
        check_kl(self.kl_estimator, beta=self.beta, is_corrected=self.use_bias_correction_kl)
        self.advice()

    @property
    def ratio_level(self) -> str:
        """The level that is used: the loss's own, or the chosen one."""
        return self.loss.level or self.level

    def advice(self) -> list[str]:
        """What is legal and probably not meant; what is wrong raises ConfigError."""
        return advice(
            self.loss, self.settings, self.level, correction=self.correction, beta=self.beta, kl_estimator=self.kl_estimator,
            use_bias_correction_kl=self.use_bias_correction_kl,
        )

    def __call__(self, tokens: Tokens, *, entropy_coef: float = 0.0) -> StepLoss:
        """The loss of a micro-batch; `entropy_coef` is c of this step."""
        marks: dict[str, Tensor] = {}
        inputs = self._inputs(tokens, marks)
        surrogate = self.loss(inputs, self.settings)
        if taken := sorted(OWN_MARKS & surrogate.marks.keys()):
            raise ConfigError(f"The loss {self.loss.name} marks {', '.join(taken)}, which the run itself logs and checks. Choose names "
                              f"such as {self.loss.name}/share.")
        marks |= {"ratio": inputs.ratio, **surrogate.marks}
        per_token = self._masked(surrogate.loss, inputs, tokens, marks)
        if self.beta > 0:
            per_token = per_token + self.beta * self._kl(inputs, tokens, marks)
        loss = (tokens.weights * per_token).sum()
        if entropy_coef:
            assert tokens.entropy is not None and tokens.entropy_weights is not None, "an entropy bonus needs entropy and its weights"
            loss = loss - entropy_coef * (tokens.entropy_weights * tokens.entropy).sum()
        return StepLoss(loss=loss, marks={name: mark.detach().to(loss.dtype) for name, mark in marks.items()})

    def _inputs(self, tokens: Tokens, marks: dict[str, Tensor]) -> LossInputs:
        log_ratio = tokens.logprobs - tokens.old_logprobs  # [N]
        if self.ratio_level == "token":
            ratio = importance_ratio(log_ratio)
        else:
            ratio = tokens.spread(importance_ratio(tokens.row_mean(log_ratio)))
        return LossInputs(
            logprobs=tokens.logprobs, old_logprobs=tokens.old_logprobs, log_ratio=log_ratio, ratio=ratio, advantages=tokens.advantages,
            importance=self._importance(tokens, marks), importance_is_per_row=self.correction is not None and self.correction.is_per_row,
            keep=tokens.keep, segments=tokens.segments,
        )

    def _importance(self, tokens: Tokens, marks: dict[str, Tensor]) -> Tensor | None:
        """`[N]` rho, a constant."""
        if self.correction is None:
            return None
        assert tokens.sampler_logprobs is not None, "an off-policy correction needs the sampler's log-probs"
        policy = tokens.logprobs if self.loss.corrects_current else tokens.old_logprobs
        marks["importance_raw"], marks["importance"] = self.correction.ratio(policy, tokens.sampler_logprobs, tokens.segments)
        return marks["importance"]

    def _masked(self, loss: Tensor, inputs: LossInputs, tokens: Tokens, marks: dict[str, Tensor]) -> Tensor:
        """`[N]` the surrogate times opsm, keep and rho, in this order, but for those that the loss includes itself."""
        if self.off_policy_mask_threshold is not None:
            keep = off_policy_keep(tokens, self.off_policy_mask_threshold)
            marks["off_policy_masked"] = 1 - keep
            loss = loss * keep
        if inputs.keep is not None and not self.loss.includes_keep:
            loss = loss * inputs.keep
        if inputs.importance is not None and not self.loss.includes_importance:
            loss = loss * inputs.importance
        return loss

    def _kl(self, inputs: LossInputs, tokens: Tokens, marks: dict[str, Tensor]) -> Tensor:
        """`[N]`; what is logged is the estimate without the importance ratio."""
        assert tokens.reference_logprobs is not None, "a KL needs the reference's log-probs"
        kl = marks["kl"] = KL_ESTIMATORS[self.kl_estimator](tokens.logprobs, tokens.reference_logprobs)
        return kl * inputs.ratio if self.use_bias_correction_kl else kl
