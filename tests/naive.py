"""The textbook in float64, for tests: what the gradient of an optimizer step should be, and what Heron says that it is.

The naive side repeats the prompt for every row, pads on the right, holds the full logits, and takes the losses of `naive_loss`, which
are loops over rows. One pass of the model serves any number of objectives.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import torch
from naive_loss import Row, step_loss
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heron.config.objective import ObjectiveConfig
from heron.models import Policy
from heron.training.batch import pack
from heron.training.compiled import objective_of
from heron.training.measures import Measures
from heron.training.probing import moves_without_advantage
from heron.training.samples import Weighing, make_samples, weighing_of
from heron.training.update import Anchors, accumulate
from heron.types import Group, Rollout

MAX_LENGTH = 12
TEMPERATURE = 0.8
Gradient = dict[str, Tensor]


class Wide(TorchFunctionMode):
    """Casts to float32 give float64: so norms, softmax and rotary angles, which models compute in float32, are exact too."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        function = Tensor.double if function is Tensor.float else function
        wider = {name: _wider(value) for name, value in (kwargs or {}).items()}
        return function(*map(_wider, args), **wider)


def _wider(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument


def in_float64(model: Any) -> Any:
    """A copy in float64 with transformers' own attention, written out; `naive_forward` keeps it from narrowing on the way."""
    wide = copy.deepcopy(model).double()
    base = wide.get_base_model() if hasattr(wide, "peft_config") else wide
    base.set_attn_implementation("eager")
    if base._can_set_experts_implementation():
        base.set_experts_implementation("eager")  # grouped products know no float64
    return wide


def naive_forward(model: Any, groups: Sequence[Group]) -> list[tuple[Tensor, Tensor]]:
    """Log-prob and entropy at every sampled token, row by row, from one right-padded batch and its full logits."""
    rows = [_sequence(rollout) for group in groups for rollout in group.rollouts]
    width = max(len(tokens) for tokens, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, (tokens, _) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        mask[number, : len(tokens)] = 1
    with Wide():
        everything = (model(input_ids=ids, attention_mask=mask).logits / TEMPERATURE).log_softmax(-1)  # [rows, width, V]
    assert everything.dtype == torch.float64
    return [_at(everything[number], ids[number], torch.tensor(sampled)) for number, (_, sampled) in enumerate(rows)]


def _sequence(rollout: Rollout) -> tuple[list[int], list[int]]:
    """All tokens of a rollout, and the places of those that were sampled."""
    tokens: list[int] = []
    sampled: list[int] = []
    for turn in rollout.turns:
        tokens += turn.prompt_ids
        sampled += range(len(tokens), len(tokens) + len(turn.completion.token_ids))
        tokens += turn.completion.token_ids
    return tokens, sampled


def _at(logp: Tensor, ids: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    logp = logp[sampled - 1]
    return logp.gather(-1, ids[sampled][:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def naive_logprobs(model: Any, groups: Sequence[Group]) -> list[Tensor]:
    """Log-probs of every completion token, row by row."""
    return [logp for logp, _ in naive_forward(model, groups)]


class Textbook:
    """A policy and its rollouts, forwarded once in float64; then the gradient of any objective."""

    def __init__(self, policy: Policy, groups: Sequence[Group], *, old: Sequence[Tensor] | None = None) -> None:
        wide = in_float64(policy.model)
        self.groups = groups
        self.weights = {name: weight for name, weight in wide.named_parameters() if weight.requires_grad}
        self.seen = naive_forward(wide, groups)
        self.old = [logp.detach() for logp, _ in self.seen] if old is None else list(old)
        self.reference = _reference(policy, wide, groups)

    def rows(self, objective: ObjectiveConfig, *, old_is_sampler: bool = False) -> list[Row]:
        """What the losses of the textbook look at."""
        rollouts = [rollout for group in self.groups for rollout in group.rollouts]
        sampled = [_reported(rollout) for rollout in rollouts]
        return [
            Row(logp=logp, old=sampler if old_is_sampler else old, sampler=sampler, entropy=entropy, sampled_entropy=nats,
                reference=reference if objective.beta > 0 else None, advantage=advantage, truncated=rollout.truncated)
            for (logp, entropy), old, reference, (sampler, nats), advantage, rollout
            in zip(self.seen, self.old, self.reference, sampled, naive_advantages(self.groups), rollouts, strict=True)
        ]

    def loss(self, objective: ObjectiveConfig, *, old_is_sampler: bool = False, entropy_coef: float | None = None) -> Tensor:
        """Of the optimizer step, with gradient."""
        rows = self.rows(objective, old_is_sampler=old_is_sampler)
        return step_loss(rows, objective, max_length=MAX_LENGTH, entropy_coef=entropy_coef)

    def gradient(self, objective: ObjectiveConfig, *, old_is_sampler: bool = False, entropy_coef: float | None = None) -> Gradient:
        """By weight name."""
        return self.gradient_of(self.loss(objective, old_is_sampler=old_is_sampler, entropy_coef=entropy_coef))

    def gradient_of(self, loss: Tensor) -> Gradient:
        """By weight name; weights that the loss does not reach have none."""
        found = torch.autograd.grad(loss, list(self.weights.values()), retain_graph=True, allow_unused=True)
        return {name: gradient for name, gradient in zip(self.weights, found, strict=True) if gradient is not None}


def _reported(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies as the sampler reported them; zeros where it reported no entropy."""
    completions = [turn.completion for turn in rollout.turns]
    logprobs = torch.tensor([value for each in completions for value in each.logprobs]).double()
    entropies = torch.tensor([value for each in completions for value in each.entropies], dtype=torch.float64)
    return logprobs, entropies if len(entropies) else torch.zeros_like(logprobs)


@torch.no_grad()
def _reference(policy: Policy, wide: Any, groups: Sequence[Group]) -> list[Tensor | None]:
    """A new adapter switched off, or the frozen start; Nones where there is neither."""
    if policy.is_lora:
        with wide.disable_adapter():
            return [*naive_logprobs(wide, groups)]
    if policy.reference is None:
        return [None for group in groups for _ in group.rollouts]
    return [*naive_logprobs(in_float64(policy.reference.model), groups)]


def naive_advantages(groups: Sequence[Group]) -> Iterator[float]:
    """GRPO's z-score, row by row."""
    for group in groups:
        rewards = [rollout.reward for rollout in group.rollouts]
        yield from ((reward - fmean(rewards)) / (stdev(rewards) + 1e-4) for reward in rewards)


def heron_gradient(
    policy: Policy, groups: Sequence[Group], objective: ObjectiveConfig, *, budget: int = 40, old: list[Tensor] | None = None,
    old_is_sampler: bool = False, keep_all: bool | None = None, entropy_coef: float | None = None, batch_tokens: int | None = None,
) -> tuple[Gradient, Measures, list[Tensor]]:
    """Gradient by weight name, through the code that trains; also what it measured, and the old log-probs by micro-batch."""
    policy.model.zero_grad(set_to_none=True)
    compiled = objective_of(objective)
    samples = make_samples(groups, weighing(objective, keep_all=keep_all), batch_tokens=batch_tokens)
    batches = pack(samples, budget=budget, device=policy.device)
    passes = [
        accumulate(
            policy, batch, compiled, temperature=TEMPERATURE, anchors=None if old is None else Anchors(old=old[number]),
            is_on_policy=old is None and not old_is_sampler,
            entropy_coef=objective.entropy_coef if entropy_coef is None else entropy_coef,
        )
        for number, batch in enumerate(batches)
    ]
    gradient = {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}
    return gradient, Measures.merged([measured for measured, _ in passes]), [anchors.old for _, anchors in passes]


def weighing(objective: ObjectiveConfig, *, keep_all: bool | None = None) -> Weighing:
    """How the trainer would count, with `MAX_LENGTH`; `keep_all` forwards rollouts without advantage or leaves them out."""
    compiled = objective_of(objective)
    moves = moves_without_advantage(compiled)
    made = weighing_of(objective, scheme=compiled.loss.weights, max_completion_length=MAX_LENGTH, moves_without_advantage=moves)
    return made if keep_all is None else replace(made, keep_all=keep_all)


def difference(ours: Gradient, theirs: Gradient) -> float:
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
