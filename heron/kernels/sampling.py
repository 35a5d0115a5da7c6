"""Draw tokens from logits by inverting the cumulative distribution with given uniform numbers.

The one hard idea: the uniforms come from outside, one stream per completion, so a completion draws the same tokens whatever it
is batched with. The search goes over blocks of the vocabulary first and then inside one block: two short cumulative sums
instead of one over the whole vocabulary, which is faster (`torch.multinomial` costs about 20 ns an entry on a CPU) and rounds
less. It leaves out filters (top-p, top-k): a filtered sampler would not sample the distribution that is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128
"""Vocabulary entries per block."""


def sample(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row, with its log-probability and the entropy of the distribution.

    Args:
        logits: `[B, V]`, already scaled by the temperature, float32 or wider.
        uniforms: `[B]` in [0, 1), float64.

    Returns:
        `tokens [B]` int64, `logprobs [B]` and `entropy [B]` in nats.
    """
    logprobs = logits.log_softmax(-1)  # [B, V]
    probabilities = logprobs.exp()  # [B, V]
    entropy = -(probabilities * logprobs.clamp_min(torch.finfo(logprobs.dtype).min)).sum(-1)  # [B]
    tokens = invert_cdf(probabilities, uniforms)
    return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1), entropy


def invert_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Index `i [B]` with `cdf[i-1] <= u < cdf[i]`, for `probabilities [B, V]` (need not sum to exactly 1) and `u [B]`."""
    batch, vocabulary = probabilities.shape
    padded = torch.nn.functional.pad(probabilities, (0, -vocabulary % BLOCK)).view(batch, -1, BLOCK)  # [B, V/128, 128]
    block_cdf = padded.sum(-1, dtype=torch.float64).cumsum(-1)  # [B, V/128]
    goal = (uniforms * block_cdf[:, -1])[:, None]  # [B, 1]
    block = _first_above(block_cdf, goal)  # [B, 1]
    before = torch.where(block > 0, block_cdf.gather(-1, (block - 1).clamp_min(0)), 0.0)  # [B, 1]
    inside = padded.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1)  # [B, 128]
    inside_cdf = inside.to(torch.float64).cumsum(-1)  # [B, 128]
    offset = _first_above(inside_cdf, (goal - before).clamp_max(inside_cdf[:, -1:] * (1 - 1e-15)))  # [B, 1]
    return (block * BLOCK + offset).squeeze(-1).clamp_max(vocabulary - 1)  # NaN would point behind the end


def _first_above(cdf: Tensor, goal: Tensor) -> Tensor:
    """First index `[B, 1]` whose value exceeds the goal: never one of probability zero."""
    return torch.searchsorted(cdf, goal, right=True).clamp_max(cdf.shape[-1] - 1)
