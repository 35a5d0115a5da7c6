"""The reference of `kernels.triton_paged`: all that a table names is gathered, and what is not seen is left out; in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def naive_paged_decode(
    query: Tensor, keys: Tensor, values: Tensor, block_table: Tensor, positions: Tensor,
    *, scaling: float, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:
    """`paged_decode`, naively. Shapes depend on nothing that a tensor holds, so it can be recorded and replayed."""
    key, value = (kind[block_table.long()].double().transpose(1, 2).flatten(2, 3) for kind in (keys, values))  # [B, K, M s, d]
    age = positions[:, None] - torch.arange(key.shape[2])  # [B, M s]
    seen = ((age >= 0) & (age < (window or age.shape[1])))[:, None, None]
    grouped = query.double().unflatten(1, (key.shape[1], -1))  # [B, K, g, d]
    scores = torch.where(seen, grouped @ key.transpose(2, 3) * scaling, 0.0)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.double().view(1, key.shape[1], -1, 1).expand(len(scores), -1, -1, -1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]]
    return (weights @ torch.where(seen.transpose(2, 3), value, 0.0)).flatten(1, 2).to(query.dtype)
