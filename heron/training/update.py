"""One micro-batch forward and backward, and the optimizer's step. The mathematics of training, and no policy.

The loss is a weighted sum over the trained tokens, whose weights were counted over the whole optimizer step; so the gradients of
micro-batches (and of ranks) are summed. What it leaves out: which rollouts to train on, and when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heron.errors import GuardStop
from heron.models.policy import Policy
from heron.objective import Objective, Tokens
from heron.training import ranks
from heron.training.batch import Microbatch
from heron.training.measures import Measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Log-probs that stay fixed over all passes on a micro-batch."""

    old: Tensor | None = None
    """`[N]` under the policy before its first step on these rollouts; None before the first pass."""
    reference: Tensor | None = None
    """`[N]` under the reference; None before the first pass, and where there is no KL."""


def accumulate(
    policy: Policy, batch: Microbatch, objective: Objective, *, temperature: float, anchors: Anchors | None = None,
    is_on_policy: bool = True, entropy_coef: float = 0.0,
) -> tuple[Measures, Anchors]:
    """Add one micro-batch's gradient to the weights' `.grad`.

    Args:
        policy: whose weights get the gradient.
        batch: packed tokens, with weights that already count the whole step.
        objective: loss, KL and corrections.
        temperature: the sampler's.
        anchors: what the first pass over this micro-batch fixed; None on the first pass.
        is_on_policy: these weights sampled the batch. Then the old log-probs are the policy's own and the ratio is exactly 1;
            otherwise they are what the sampler reported.
        entropy_coef: weight of the entropy bonus.

    Returns:
        What was measured, and the anchors for later passes.
    """
    hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)  # [1, T, D]
    foreseeable = is_on_policy and policy.trains_head and anchors is None and entropy_coef == 0
    logprobs, entropy = policy.logprobs(
        hidden[0].index_select(0, batch.where), batch.targets, temperature=temperature, entropy=entropy_coef > 0,
        expected_gradient=foreseen_gradient(batch, objective) if foreseeable else None,
    )  # [N], [N] or None
    seen = logprobs.detach()
    anchors = anchors or Anchors()
    if anchors.old is None:
        anchors = replace(anchors, old=seen if is_on_policy else batch.sampler_logprobs)
    if objective.beta > 0 and anchors.reference is None:
        anchors = replace(anchors, reference=reference_logprobs(policy, batch, temperature=temperature))
    loss = objective(_tokens(batch, logprobs, entropy, anchors), entropy_coef=entropy_coef)
    loss.loss.backward()
    return Measures.of(loss.loss.detach(), loss.marks), anchors


def foreseen_gradient(batch: Microbatch, objective: Objective) -> Tensor | None:
    """`[N]` what the loss sends back to the log-probs while the ratio is 1, if that does not depend on what they are; else None."""
    if objective.beta > 0 or objective.correction is not None or objective.off_policy_mask_threshold is not None:
        return None
    low, high = (_gradient_at(torch.full_like(batch.weights, place), batch, objective) for place in (-3.0, -0.5))
    return low if torch.equal(low, high) else None


def _gradient_at(logprobs: Tensor, batch: Microbatch, objective: Objective) -> Tensor:
    """`[N]` of the loss by the log-probs, on-policy, if they were these."""
    logprobs.requires_grad_()
    loss = objective(_tokens(batch, logprobs, None, Anchors(old=logprobs.detach()))).loss
    if not loss.requires_grad:
        return torch.zeros_like(logprobs)
    return torch.autograd.grad(loss, logprobs)[0]


def reference_logprobs(policy: Policy, batch: Microbatch, *, temperature: float) -> Tensor:
    """`[N]` under the start of the run."""
    return policy.reference_logprobs(
        batch.token_ids, batch.positions, batch.plan, batch.where, batch.targets, temperature=temperature
    )


@torch.no_grad()
def current_logprobs(policy: Policy, batch: Microbatch, *, temperature: float) -> Tensor:
    """`[N]` under the policy as it is: the old log-probs, for an engine that cannot report them exactly."""
    hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
    return policy.logprobs(hidden[0].index_select(0, batch.where), batch.targets, temperature=temperature)[0]


def _tokens(batch: Microbatch, logprobs: Tensor, entropy: Tensor | None, anchors: Anchors) -> Tokens:
    assert anchors.old is not None
    return Tokens(
        logprobs=logprobs, old_logprobs=anchors.old, advantages=batch.advantages, rows=batch.rows, weights=batch.weights,
        sampler_logprobs=batch.sampler_logprobs, reference_logprobs=anchors.reference, entropy=entropy,
        entropy_weights=batch.entropy_weights, keep=batch.keep,
    )


class NotFinite(GuardStop):
    """An optimizer step was not taken, for something in it is not finite."""

    def __init__(self, what: Sequence[str], words: str) -> None:
        super().__init__(words)
        self.what = tuple(what)
        """`loss`, `ratio`, `gradient`."""


def clip_and_step(
    optimizer: torch.optim.Optimizer, *, max_grad_norm: float, watched: Mapping[str, Tensor] | None = None
) -> float:
    """Sum the gradient over ranks, clip it, take the step, clear it; returns the norm before clipping.

    Raises NotFinite before anything has moved if the norm, or a scalar of `watched`, is not finite on any rank; gradients are then as they
    were summed. All of them are read in one transfer. A gradient of exactly 0 takes no step: momentum alone must not move the weights.
    """
    everything = [weight for group in optimizer.param_groups for weight in group["params"]]
    ranks.sum_gradients(everything)
    weights = [weight for weight in everything if weight.grad is not None]
    total = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    values = {"gradient": total} | dict(watched or {})
    read = dict(zip(values, torch.stack([value.double().to(total.device) for value in values.values()]).tolist(), strict=True))
    bad = [name for name, value in read.items() if not math.isfinite(value)]
    norm = read["gradient"]
    if ranks.total_of(len(bad)):
        raise NotFinite(bad, f"The gradient's norm is {norm}{_others(read)}: this optimizer step was not taken. Lower "
                             "train.learning_rate, or look at the last rollouts for what made it.")
    torch.nn.utils.clip_grads_with_norm_(weights, max_grad_norm, total)
    if norm:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _others(read: Mapping[str, float]) -> str:
    return "".join(f", the {name} {value}" for name, value in read.items() if name != "gradient")
