"""From groups to packed micro-batches.

The one hard idea: a group is packed as a tree. The prompt stands there once, and so does everything that several siblings began
with; positions and the attention plan make every sibling read as if it stood alone behind the prompt. Weights are made for the
whole optimizer step before anything is cut, so the cut does not matter. Rollouts that cannot move the weights are left out of the
forward pass but not out of the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.kernels.attention import PackedPlan, packed_plan
from heron.objective import token_weights
from heron.types import Group, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training sequence behind its prompt."""

    prompt_ids: tuple[int, ...]
    """The first turn's prompt, shared by the siblings."""
    token_ids: tuple[int, ...]
    """Everything after the prompt: completions, and what environments replied between them."""
    is_trained: tuple[bool, ...]
    """For each of `token_ids`: sampled by the model, and part of the loss."""
    sampler_logprobs: tuple[float, ...]
    """For each trained token: its log-prob when it was sampled."""
    advantage: float
    """Of the rollout."""
    weight: float
    """Of each trained token in the optimizer step's loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """Packed tokens of one forward pass, and what the loss needs at the N trained positions."""

    token_ids: Tensor
    """`[1, T]`."""
    positions: Tensor
    """`[1, T]`, restarted behind the prompt for every sibling."""
    plan: PackedPlan
    """Who attends to whom."""
    where: Tensor
    """`[N]` packed index of the token that predicts each trained token."""
    targets: Tensor
    """`[N]` the trained tokens."""
    weights: Tensor
    """`[N]` share of each in the step's loss."""
    advantages: Tensor
    """`[N]`."""
    sampler_logprobs: Tensor
    """`[N]`."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are forwarded."""
        return self.token_ids.shape[1]


def make_samples(
    groups: Sequence[Group], *, loss_type: str, max_completion_length: int, mask_truncated: bool, keep_all: bool
) -> list[list[Sample]]:
    """Samples of one optimizer step, by group; weights count every rollout of the step.

    `keep_all` keeps rollouts without advantage (a KL term still moves them); otherwise they are left out, which changes nothing
    but the time.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    counts = [0 if mask_truncated and rollout.truncated else len(rollout.completion_ids) for rollout in rollouts]
    weights = iter(token_weights(loss_type, counts, max_completion_length=max_completion_length))
    lengths = iter(counts)
    made = [[(rollout, next(lengths), next(weights)) for rollout in group.rollouts] for group in groups]
    return [
        kept for group in made
        if (kept := [_sample(rollout, weight) for rollout, count, weight in group if count and (keep_all or rollout.advantage)])
    ]


def _sample(rollout: Rollout, weight: float) -> Sample:
    first, *later = rollout.turns
    tokens = list(first.completion.token_ids)
    trained = [True] * len(tokens)
    for turn in later:
        tokens += [*turn.prompt_ids, *turn.completion.token_ids]
        trained += [False] * len(turn.prompt_ids) + [True] * len(turn.completion.token_ids)
    logprobs = tuple(value for turn in rollout.turns for value in turn.completion.logprobs)
    return Sample(
        prompt_ids=first.prompt_ids, token_ids=tuple(tokens), is_trained=tuple(trained), sampler_logprobs=logprobs,
        advantage=rollout.advantage, weight=weight,
    )


def pack(groups: Sequence[Sequence[Sample]], *, budget: int, device: torch.device) -> list[Microbatch]:
    """Micro-batches of at most `budget` packed tokens (a single longer sequence gets one of its own)."""
    batches: list[list[list[Sample]]] = [[]]
    room = budget
    for group in groups:
        for siblings in _split(group, budget):
            size = _packed_length(siblings)
            if size > room and batches[-1]:
                batches.append([])
                room = budget
            batches[-1].append(siblings)
            room -= size
    return [_microbatch(batch, device) for batch in batches if batch]


def _packed_length(siblings: Sequence[Sample]) -> int:
    return len(siblings[0].prompt_ids) + sum(len(sample.token_ids) - 1 for sample in siblings)


def _split(group: Sequence[Sample], budget: int) -> list[list[Sample]]:
    """Cut a group that exceeds the budget into parts; each repeats the prompt."""
    parts: list[list[Sample]] = []
    for sample in group:
        if parts and _packed_length([*parts[-1], sample]) <= budget:
            parts[-1].append(sample)
        else:
            parts.append([sample])
    return parts


def _microbatch(groups: Sequence[Sequence[Sample]], device: torch.device) -> Microbatch:
    token_ids: list[int] = []
    positions: list[int] = []
    rows: list[list[int]] = []
    where: list[int] = []
    targets: list[int] = []
    per_token: list[tuple[float, float, float]] = []  # weight, advantage, sampler's log-prob
    for group in groups:
        prompt = list(range(len(token_ids), len(token_ids) + len(group[0].prompt_ids)))
        token_ids += group[0].prompt_ids
        positions += range(len(prompt))
        said: dict[tuple[int, int], int] = {}  # (packed index of a token, the token after it) to the packed index of the latter
        paths = [_path(prompt, sample.token_ids[:-1], said, token_ids, positions) for sample in group]  # the last predicts nothing
        rows += _longest(paths)
        for sample, path in zip(group, paths, strict=True):
            logprobs = iter(sample.sampler_logprobs)
            for index, token, trained in zip(path[len(prompt) - 1 :], sample.token_ids, sample.is_trained, strict=True):
                if trained:
                    where.append(index)
                    targets.append(token)
                    per_token.append((sample.weight, sample.advantage, next(logprobs)))
    weights, advantages, sampled = torch.tensor(per_token, dtype=torch.float64, device=device).T.float()  # [3, N]
    return Microbatch(
        token_ids=torch.tensor([token_ids], device=device), positions=torch.tensor([positions], device=device),
        plan=packed_plan(rows, device=device), where=torch.tensor(where, device=device),
        targets=torch.tensor(targets, device=device), weights=weights, advantages=advantages, sampler_logprobs=sampled,
    )


def _path(
    prompt: Sequence[int], inputs: Sequence[int], said: dict[tuple[int, int], int], token_ids: list[int], positions: list[int]
) -> list[int]:
    """Packed indices of one sibling from the prompt on; what an earlier sibling began with too is not packed again."""
    path = list(prompt)
    for token in inputs:
        branch = (path[-1], token)
        if branch not in said:
            said[branch] = len(token_ids)
            token_ids.append(token)
            positions.append(len(path))
        path.append(said[branch])
    return path


def _longest(paths: Sequence[list[int]]) -> list[list[int]]:
    """Each path that is not the beginning of another one, once: together they hold every packed token."""
    inner = {index for path in paths for index in path[:-1]}
    return list({path[-1]: path for path in paths if path[-1] not in inner}.values())
