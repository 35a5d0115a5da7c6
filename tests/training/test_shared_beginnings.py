"""Siblings that begin alike are packed as a tree, and each still reads as if it stood alone."""

from __future__ import annotations

import torch

from heron.training.batch import pack
from heron.training.samples import Sample

PROMPT = (1, 2)


def sample(*token_ids: int) -> Sample:
    count = len(token_ids)
    return Sample(
        prompt_ids=PROMPT, token_ids=token_ids, is_trained=(True,) * count, sampler_logprobs=(0.0,) * count, keep=(True,) * count,
        advantage=1.0, weight=1.0, entropy_weight=0.0,
    )


def test_what_siblings_share_is_packed_once() -> None:
    """Prevents: computing a common beginning once per sibling; merging branches that only meet again later."""
    group = [sample(5, 6, 9), sample(5, 6, 7, 9), sample(8, 6, 9), sample(5, 6, 9), sample(5)]
    (batch,) = pack([group], budget=99, device=torch.device("cpu"))
    assert batch.token_ids.tolist() == [[1, 2, 5, 6, 7, 8, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 2, 3]]
    assert batch.where.tolist() == [1, 2, 3, 1, 2, 3, 4, 1, 5, 6, 1, 2, 3, 1]
    assert batch.targets.tolist() == [5, 6, 9, 5, 6, 7, 9, 8, 6, 9, 5, 6, 9, 5]


def test_every_packed_token_is_attended_for_once() -> None:
    """Prevents: a row that is left out although a token stands only in it, and tokens that two rows answer for."""
    (batch,) = pack([[sample(5), sample(5, 6), sample(5, 6, 7)], [sample(5)]], budget=99, device=torch.device("cpu"))
    tokens = torch.cat([grid.gather[grid.kept] for grid in batch.plan.grids])
    assert tokens.sort().values.tolist() == list(range(batch.num_tokens))
