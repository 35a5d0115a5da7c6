"""The textbook in float64, for tests: what the gradient of an optimizer step should be, and what Heron says that it is.

The naive side repeats the prompt for every row, pads on the right, holds the full logits, and writes the losses as loops over
rows, as their papers do.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from heron.config.schema import ObjectiveConfig
from heron.models import Policy
from heron.training.batch import make_samples, pack
from heron.training.update import UpdateStats, accumulate, merge
from heron.types import Group

MAX_LENGTH = 12
TEMPERATURE = 0.8


class Norm64(nn.Module):
    """RMSNorm without transformers' detour over float32."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x / (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt()


def in_float64(model: Any) -> Any:
    """A copy in float64 with transformers' own attention."""
    wide = copy.deepcopy(model).double()
    (wide.get_base_model() if hasattr(wide, "peft_config") else wide).set_attn_implementation("sdpa")
    for module in list(wide.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                setattr(module, name, Norm64(child))
    return wide


def naive_logprobs(model: Any, groups: Sequence[Group]) -> list[Tensor]:
    """Log-probs of every completion token, row by row, from one right-padded batch and its full logits."""
    rows = [(r.turns[0].prompt_ids, r.turns[0].completion.token_ids) for group in groups for r in group.rollouts]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, (prompt, answer) in enumerate(rows):
        ids[number, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        mask[number, : len(prompt) + len(answer)] = 1
    everything = (model(input_ids=ids, attention_mask=mask).logits / TEMPERATURE).log_softmax(-1)  # [rows, width, V]
    assert everything.dtype == torch.float64
    return [
        everything[number, len(prompt) - 1 : len(prompt) + len(answer) - 1].gather(-1, torch.tensor(answer)[:, None])[:, 0]
        for number, (prompt, answer) in enumerate(rows)
    ]


def naive_loss(
    logprobs: list[Tensor], old: list[Tensor], reference: list[Tensor] | None, groups: Sequence[Group], *,
    loss_type: str, objective: ObjectiveConfig,
) -> Tensor:
    """The textbook: advantages from rewards, the clipped surrogate, k3, and the four ways to average."""
    advantages = [(r.reward - fmean(rs)) / (stdev(rs) + 1e-4) for group in groups
                  for rs in [[r.reward for r in group.rollouts]] for r in group.rollouts]
    truncated = [r.truncated for group in groups for r in group.rollouts]
    sums, lengths = [], []
    for row, logp in enumerate(logprobs):  # [n_b]
        if objective.mask_truncated_completions and truncated[row]:
            sums.append(logp.sum() * 0)
            lengths.append(0)
            continue
        ratio = torch.exp(logp - old[row])
        high = objective.epsilon if objective.epsilon_high is None else objective.epsilon_high
        clipped = torch.clamp(ratio, 1 - objective.epsilon, 1 + high)
        capped = ratio if objective.delta is None else torch.clamp(ratio, max=objective.delta)
        loss = -torch.min(capped * advantages[row], clipped * advantages[row])
        if reference is not None:
            gap = reference[row] - logp
            loss = loss + objective.beta * (torch.exp(gap) - gap - 1)
        sums.append(loss.sum())
        lengths.append(len(logp))
    if loss_type == "grpo":
        return sum(total / max(n, 1) for total, n in zip(sums, lengths, strict=True)) / len(sums)
    if loss_type in ("bnpo", "dapo"):
        return sum(sums) / max(sum(lengths), 1)
    return sum(sums) / (len(sums) * MAX_LENGTH)


def naive_gradient(
    policy: Policy, groups: Sequence[Group], objective: ObjectiveConfig, *, old: list[Tensor] | None = None
) -> dict[str, Tensor]:
    """Gradient by weight name."""
    wide = in_float64(policy.model)
    logprobs = naive_logprobs(wide, groups)
    reference = None
    if objective.beta > 0:
        with torch.no_grad():
            if policy.is_lora:
                with wide.disable_adapter():
                    reference = naive_logprobs(wide, groups)
            else:
                reference = naive_logprobs(in_float64(policy.reference.model), groups)
    fixed = [logp.detach() for logp in logprobs] if old is None else old
    naive_loss(logprobs, fixed, reference, groups, loss_type=objective.loss_type, objective=objective).backward()
    return {name: weight.grad for name, weight in wide.named_parameters() if weight.requires_grad and weight.grad is not None}


def heron_gradient(
    policy: Policy, groups: Sequence[Group], objective: ObjectiveConfig, *, budget: int = 40, old: list[Tensor] | None = None,
    keep_all: bool | None = None,
) -> tuple[dict[str, Tensor], UpdateStats, list[Tensor]]:
    """Gradient by weight name, through the code that trains; also what it measured, and the log-probs by micro-batch."""
    policy.model.zero_grad(set_to_none=True)
    samples = make_samples(
        groups, loss_type=objective.loss_type, max_completion_length=MAX_LENGTH,
        mask_truncated=objective.mask_truncated_completions, keep_all=objective.beta > 0 if keep_all is None else keep_all,
    )
    batches = pack(samples, budget=budget, device=policy.device)
    passes = [
        accumulate(policy, batch, objective, temperature=TEMPERATURE, old_logprobs=None if old is None else old[number])
        for number, batch in enumerate(batches)
    ]
    gradient = {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}
    return gradient, merge([stats for stats, _ in passes]), [seen for _, seen in passes]


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Norm of the difference over the norm of the reference, all weights together."""
    assert ours.keys() == theirs.keys()
    gaps = torch.stack([(ours[name].double() - theirs[name].double()).norm() for name in theirs])
    norms = torch.stack([theirs[name].double().norm() for name in theirs])
    assert norms.norm() > 0
    return float(gaps.norm() / norms.norm())


def nudge(policy: Policy, size: float, seed: int = 1) -> None:
    """Move every trained weight a little, as an optimizer step would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in policy.trainable():
            weight.add_(torch.randn(weight.shape, generator=generator) * size)
