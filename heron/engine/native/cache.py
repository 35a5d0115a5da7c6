"""The cache of one policy version: pages and their tensors, as large as the requests need and the budget allows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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


def pages_wanted(requests: Sequence[Request], params: SamplingParams, *, page_size: int, max_concurrent: int) -> tuple[int, int]:
    """Pages that these requests may hold at once, largest first; and what one completion needs on its own."""
    answer = -(-params.max_tokens // page_size) + 1  # and one to fork to
    room, pages, alone = max_concurrent, 0, 1
    for request in sorted(requests, key=lambda request: -len(request.prompt_ids)):
        prompt, siblings = -(-len(request.prompt_ids) // page_size), min(room, len(request.seeds))
        copies = siblings if request.said else min(1, siblings)  # those that go on begin apart, each with a prompt of its own
        pages, room = pages + copies * prompt + siblings * answer, room - siblings
        alone = max(alone, -(-(len(request.prompt_ids) + params.max_tokens) // page_size) + 1)
    return max(pages, alone), alone


def make_cache(pages: int, policy: Policy, *, page_size: int) -> Cache:
    """A cache of so many pages. On CUDA one more takes what nobody reads (see `graphs`)."""
    store = Store(pages, page_size, has_scratch=policy.device.type == "cuda")
    return Cache(pages=Pages(pages), store=store, version=policy.version)


def pages_allowed(budget: int, bytes_per_page: int, alone: int, policy: Policy) -> int:
    """Pages that a budget in bytes has room for; an error if not even one completion has."""
    allowed = budget // bytes_per_page - (policy.device.type == "cuda")
    if allowed < alone:
        raise EngineError(f"One completion needs up to {alone * bytes_per_page:,} bytes for its keys and values, but there are "
                          f"{max(allowed, 0) * bytes_per_page:,}. Give it more (rollout.cache_gib), or ask for shorter completions.")
    return allowed


def bytes_per_token(policy: Policy) -> int:
    """Keys and values of one token in all layers, as the model's own layers make them: asked with one token."""
    plan = _Counting()
    zero = torch.zeros(1, 1, dtype=torch.int64, device=policy.device)
    with policy.sampling():
        policy.hidden(zero, zero, plan)
    key = wide(policy.dtype) if policy.device.type == "cpu" else policy.dtype
    return plan.keys * key.itemsize + plan.values * policy.dtype.itemsize


@dataclass(slots=True)
class _Counting:
    """An attention plan that counts the numbers in keys and values, and attends to nothing."""

    keys: int = 0
    values: int = 0

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        self.keys, self.values = self.keys + key.numel(), self.values + value.numel()
        return query.new_zeros(*query.shape[:3], value.shape[3])


def free_bytes(device: torch.device) -> int:
    """A share of what is free."""
    if device.type == "cuda":
        return int(SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0])
    return int(SHARE_OF_HOST * min(_free_on_host(Path("/proc/meminfo")), _free_in_group(Path("/sys/fs/cgroup"))))


def _free_on_host(table: Path) -> float:
    """Memory that can be had without swapping, file caches included."""
    if not table.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":") for line in table.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _free_in_group(folder: Path) -> float:
    """What a control group (a container) leaves; infinite if it has no limit."""
    limit = folder / "memory.max"
    if not limit.is_file() or limit.read_text().strip() == "max":
        return math.inf
    return int(limit.read_text()) - int((folder / "memory.current").read_text())
