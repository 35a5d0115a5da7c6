"""From samples to packed micro-batches.

The one hard idea: a group is packed as a tree. The prompt stands there once, and so does everything that several siblings began
with; positions and the attention plan make every sibling read as if it stood alone behind the prompt. The weights of the samples
were counted over the whole optimizer step, so where the step is cut does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.kernels.attention import AttentionPlan, packed_plan
from heron.training.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """Packed tokens of one forward pass, and what the loss needs at the N trained positions."""

    token_ids: Tensor
    """`[1, T]`."""
    positions: Tensor
    """`[1, T]`, restarted behind the prompt for every sibling."""
    plan: AttentionPlan
    """Who attends to whom."""
    where: Tensor
    """`[N]` packed index of the token that predicts each trained token."""
    targets: Tensor
    """`[N]` the trained tokens."""
    rows: Tensor
    """`[N]` number of the sample that each belongs to; a sample is never divided."""
    weights: Tensor
    """`[N]` share of each in the step's loss."""
    advantages: Tensor
    """`[N]`."""
    sampler_logprobs: Tensor
    """`[N]`."""
    keep: Tensor
    """`[N]` 1 for the tokens that the surrogate is trained on, 0 for those whose entropy is too low."""
    entropy_weights: Tensor
    """`[N]` share of each in the step's entropy bonus."""

    unshared: int
    """Tokens that there would be if every sample stood alone, its prompt included."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are forwarded."""
        return self.token_ids.shape[1]

    @property
    def num_rows(self) -> int:
        """Samples that are trained on."""
        return int(self.rows[-1]) + 1


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
    samples = [sample for group in groups for sample in group]
    for group in groups:
        prompt = list(range(len(token_ids), len(token_ids) + len(group[0].prompt_ids)))
        token_ids += group[0].prompt_ids
        positions += range(len(prompt))
        said: dict[tuple[int, int], int] = {}  # (packed index of a token, the token after it) to the packed index of the latter
        paths = [_path(prompt, sample.token_ids[:-1], said, token_ids, positions) for sample in group]  # the last predicts nothing
        rows += _longest(paths)
        for sample, path in zip(group, paths, strict=True):
            trained = [place for place, is_trained in enumerate(sample.is_trained) if is_trained]
            where += [path[len(prompt) - 1 + place] for place in trained]
            targets += [sample.token_ids[place] for place in trained]
    return Microbatch(
        token_ids=torch.tensor([token_ids], device=device), positions=torch.tensor([positions], device=device),
        plan=packed_plan(rows, device=device), where=torch.tensor(where, device=device), targets=torch.tensor(targets, device=device),
        unshared=sum(len(sample.prompt_ids) + len(sample.token_ids) - 1 for sample in samples), **_per_token(samples, device),
    )


def _per_token(samples: Sequence[Sample], device: torch.device) -> dict[str, Tensor]:
    """What the loss needs at the trained tokens of all samples, one after the other."""
    lengths = torch.tensor([len(sample.sampler_logprobs) for sample in samples])
    per_sample = torch.tensor([(s.weight, s.advantage, s.entropy_weight) for s in samples], dtype=torch.float64).float()  # [B, 3]
    weights, advantages, entropy_weights = per_sample.repeat_interleave(lengths, 0).T.contiguous().to(device)  # [3, N]
    keep = torch.tensor([kept for sample in samples for kept in sample.keep], dtype=torch.float32, device=device)
    sampled = torch.tensor([value for sample in samples for value in sample.sampler_logprobs], dtype=torch.float32, device=device)
    return {
        "rows": torch.arange(len(samples)).repeat_interleave(lengths).to(device), "weights": weights, "advantages": advantages,
        "sampler_logprobs": sampled, "keep": keep, "entropy_weights": entropy_weights * keep,
    }


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
