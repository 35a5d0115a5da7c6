"""The cache of one policy version: pages and their tensors, as large as the requests need and the budget allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from heron.engine.native.pages import Pages
from heron.engine.native.store import Store
from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.errors import EngineError
from heron.kernels.packed_tiles import wide
from heron.models.policy import Policy

SHARE_OF_HOST = 0.5
"""Of the host's free memory, if no budget is given."""
SHARE_OF_GPU = 0.8
"""Of the GPU's free memory, if no budget is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Pages, and what lies in them."""

    pages: Pages
    """Who holds which."""
    store: Store
    """Keys and values."""
    version: int
    """Of the weights that computed them: of no use to any other."""


def cache_for(
    requests: Sequence[Request], params: SamplingParams, policy: Policy, *, page_size: int, max_concurrent: int, budget: int | None
) -> Cache:
    """A cache with room for these requests, or for as much of them as the budget in bytes allows."""
    longest = max((len(request.prompt_ids) for request in requests), default=0) + params.max_tokens
    alone = -(-longest // page_size) + 1  # one completion on its own, and a page to fork to
    everything = sum(-(-len(request.prompt_ids) // page_size) + len(request.seeds) * (-(-params.max_tokens // page_size) + 1)
                     for request in requests)
    wanted = max(alone, min(everything, max_concurrent * alone))
    each = bytes_per_token(policy) * page_size
    has_scratch = policy.device.type == "cuda"  # see `graphs`
    allowed = (_free_bytes(policy.device) if budget is None else budget) // each - has_scratch
    if allowed < alone:
        raise EngineError(f"One completion of up to {longest:,} tokens needs {alone * each:,} bytes of cache, but there are "
                          f"{allowed * each:,}. Raise rollout.cache_gib, or lower rollout.max_completion_length.")
    count = min(wanted, allowed)
    return Cache(pages=Pages(count), store=Store(count, page_size, has_scratch=has_scratch), version=policy.version)


def bytes_per_token(policy: Policy) -> int:
    """Keys and values of one token in all layers."""
    config: Any = policy.text_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key = wide(policy.dtype) if policy.device.type == "cpu" else policy.dtype
    return int(config.num_hidden_layers * heads * width * (key.itemsize + policy.dtype.itemsize))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0])
    return int(SHARE_OF_HOST * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
