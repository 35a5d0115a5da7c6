"""The textbook's losses, for tests: every loss and option as its paper writes it, row by row, in plain products and means.

It shares no code with what it judges, and takes the opposite road wherever there are two: rows instead of flat tokens, products of
ratios instead of sums of logs, denominators at the end instead of weights in front. Two ways to add up: `step_loss` counts over the
optimizer step; `trl_step_loss` accumulates micro-batches with denominators of their own, as TRL does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.config.objective import ObjectiveConfig

BY_ROW_MEAN = ("grpo", "gspo", "sapo", "gmpo", "rloo")
BY_TOKENS = ("bnpo", "dapo", "cispo", "vespo", "reinforce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rollout, all of whose n tokens were sampled."""

    logp: Tensor
    """`[n]` with gradient."""
    old: Tensor
    """`[n]` under the policy before the update."""
    sampler: Tensor
    """`[n]` as the sampler reported them."""
    reference: Tensor | None
    """`[n]`; None where there is no KL."""
    entropy: Tensor
    """`[n]` of the policy, with gradient."""
    sampled_entropy: Tensor
    """`[n]` as the sampler reported them."""
    advantage: float
    truncated: bool


def step_loss(rows: Sequence[Row], o: ObjectiveConfig, *, max_length: int, entropy_coef: float | None = None) -> Tensor:
    """The loss of an optimizer step, whose every denominator is counted over all of `rows`."""
    live = [row for row in rows if not (o.mask_truncated_completions and row.truncated)]
    keeps = top_entropy(live, o.top_entropy_quantile)
    sums = [row_losses(row, keep, o).sum() for row, keep in zip(live, keeps, strict=True)]
    if o.loss_type in BY_ROW_MEAN:
        loss = sum(total / len(row.logp) for total, row in zip(sums, live, strict=True)) / len(rows)
    elif o.loss_type in BY_TOKENS:
        loss = sum(sums) / sum(len(row.logp) for row in live)
    else:
        loss = sum(sums) / {"dr_grpo": len(rows) * max_length, "luspo": len(rows)}[o.loss_type]
    coef = o.entropy_coef if entropy_coef is None else entropy_coef
    return loss - coef * mean_entropy(live, keeps)


def trl_step_loss(rows: Sequence[Row], o: ObjectiveConfig, *, max_length: int, generation_tokens: int) -> Tensor:
    """The same as TRL accumulates it on one rank, GA micro-batches to an optimizer step and S to a batch of rollouts."""
    assert o.rows_per_micro_batch is not None
    parts = [rows[start : start + o.rows_per_micro_batch] for start in range(0, len(rows), o.rows_per_micro_batch)]
    ga, s = len(parts), len(parts) * o.num_minibatches
    total = torch.zeros((), dtype=torch.float64)
    for part in parts:
        live = [row for row in part if not (o.mask_truncated_completions and row.truncated)]
        if not live:
            continue
        keeps = top_entropy(live, o.top_entropy_quantile)
        sums = [row_losses(row, keep, o).sum() for row, keep in zip(live, keeps, strict=True)]
        if o.loss_type in BY_ROW_MEAN:
            total = total + sum(each / len(row.logp) for each, row in zip(sums, live, strict=True)) / len(part) / ga
        elif o.loss_type == "bnpo":
            total = total + sum(sums) / sum(len(row.logp) for row in live) / ga
        elif o.loss_type in BY_TOKENS:
            total = total + sum(sums) / (generation_tokens * ga / s)
        else:
            total = total + sum(sums) / (len(part) * (max_length if o.loss_type == "dr_grpo" else 1)) / ga
        total = total - o.entropy_coef * mean_entropy(live, keeps) / ga
    return total


def mean_entropy(rows: Sequence[Row], keeps: Sequence[Tensor]) -> Tensor:
    """Over the tokens that are kept."""
    return torch.cat([row.entropy[keep] for row, keep in zip(rows, keeps, strict=True)]).mean()


def top_entropy(rows: Sequence[Row], quantile: float) -> list[Tensor]:
    """For each row `[n]`: the tokens whose entropy is in the upper `quantile` of all rows'."""
    everything = torch.cat([row.sampled_entropy for row in rows])
    if quantile == 1.0:
        return [torch.ones(len(row.logp), dtype=torch.bool) for row in rows]
    return [row.sampled_entropy >= torch.quantile(everything, 1 - quantile) for row in rows]


def row_losses(row: Row, keep: Tensor, o: ObjectiveConfig) -> Tensor:
    """`[n]` surrogate, masks, correction and KL of one row."""
    loss = surrogate(row, keep, o).expand(len(row.logp))
    if o.off_policy_mask_threshold is not None and row.advantage < 0:
        loss = loss * float((row.sampler - row.logp.detach()).mean() <= o.off_policy_mask_threshold)
    if o.loss_type != "gmpo":
        loss = loss * keep
    if o.loss_type != "vespo":
        loss = loss * importance(row, o)
    return loss if row.reference is None else loss + o.beta * divergence(row, o)


def ratio_of(row: Row, o: ObjectiveConfig) -> Tensor:
    """`[n]` or `[]`: pi / pi_old of each token, or the geometric mean over the sequence."""
    ratio = row.logp.exp() / row.old.exp()
    is_sequence = o.loss_type == "gspo" or o.importance_sampling_level == "sequence"
    return ratio.prod() ** (1 / len(ratio)) if is_sequence else ratio


def surrogate(row: Row, keep: Tensor, o: ObjectiveConfig) -> Tensor:
    """`[n]`, or `[]` where the row has one loss."""
    a, low, high = row.advantage, 1 - o.epsilon, 1 + (o.epsilon if o.epsilon_high is None else o.epsilon_high)
    ratio = ratio_of(row, o)
    if o.loss_type == "reinforce":
        return -a * row.logp
    if o.loss_type == "cispo":
        assert o.epsilon_high is not None
        return -ratio.detach().clamp(max=o.epsilon_high) * a * row.logp
    if o.loss_type == "sapo":
        tau = o.sapo_temperature_pos if a > 0 else o.sapo_temperature_neg
        return -4 / tau / (1 + torch.exp(-tau * (ratio - 1))) * a
    if o.loss_type == "vespo":
        return -bump(row, o) * a * row.logp
    if o.loss_type == "gmpo":
        clipped = ratio.clamp(math.exp(1 - low) ** -1, math.exp(high - 1))
        pessimistic = torch.minimum(ratio * a, clipped * a) / a if a else ratio
        return -(pessimistic[keep].prod() ** (1 / max(int(keep.sum()), 1))) * a
    if o.loss_type == "rloo":
        ratio = ratio.prod()
    elif o.delta is not None:
        return -torch.minimum(ratio.clamp(max=o.delta) * a, ratio.clamp(low, high) * a)
    return -torch.minimum(ratio * a, ratio.clamp(low, high) * a)


def bump(row: Row, o: ObjectiveConfig) -> float:
    """vespo: W^k exp(lambda (1 - W)), W the ratio of the whole row to its sampler."""
    k, lam = (o.vespo_k_pos, o.vespo_lambda_pos) if row.advantage >= 0 else (o.vespo_k_neg, o.vespo_lambda_neg)
    rho = importance(row, o).clamp(min=1e-8)
    w = float((row.logp.detach() - row.old).sum().exp() * (rho.prod() if rho.dim() else rho))
    return float(max(w, 1e-8) ** k * math.exp(lam * (1 - max(w, 1e-8))))


def importance(row: Row, o: ObjectiveConfig) -> Tensor:
    """`[n]` or `[]`: the off-policy correction, constant."""
    if o.importance_sampling_correction == "none":
        return torch.ones((), dtype=torch.float64)
    level, bound = o.importance_sampling_correction.split("_")
    policy = row.logp.detach() if o.loss_type == "reinforce" else row.old
    rho = policy.exp() / row.sampler.exp()
    rho = rho if level == "token" else rho.prod() if level == "sequence" else rho.prod() ** (1 / len(rho))
    low, high = o.importance_sampling_clip_min or 0.0, o.importance_sampling_clip_max
    if bound == "truncate":
        return rho.clamp(low, high)
    inside = ((rho >= low) & (rho <= high)).double()
    return inside if level == "geometric" else inside * rho


def divergence(row: Row, o: ObjectiveConfig) -> Tensor:
    """`[n]` the KL estimate."""
    assert row.reference is not None
    odds = row.reference.exp() / row.logp.exp()
    estimate = {"k1": -odds.log(), "k2": odds.log() ** 2 / 2, "k3": odds - 1 - odds.log()}[o.kl_estimator]
    return estimate * ratio_of(row, o) if o.use_bias_correction_kl else estimate
