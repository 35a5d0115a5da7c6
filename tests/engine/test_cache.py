"""How much cache an engine takes: what the requests need, what the budget allows, and what a host has."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tinymodels import load_tiny

from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native import cache
from heron.engine.native.sequence import Uniforms
from heron.errors import EngineError
from heron.types import Completion, FinishReason

PARAMS = SamplingParams(max_tokens=64)
SAID = Completion(token_ids=(5,), logprobs=(0.0,), finish_reason=FinishReason.PAUSED, policy_version=0)


def asked(prompt: int, siblings: int, said: bool = False) -> Request:
    return Request(prompt_ids=(1,) * prompt, seeds=tuple(range(siblings)), said=(SAID,) * siblings if said else ())


@pytest.mark.parametrize(
    ("requests", "max_concurrent", "pages"),
    [
        ([asked(100, 8)], 256, 4 + 8 * 3),  # the prompt once, and a page to fork to for each
        ([asked(100, 8), asked(40, 8)], 256, 4 + 2 + 16 * 3),
        ([asked(100, 8)], 3, 4 + 3 * 3),
        ([asked(40, 8), asked(100, 8)], 8, 4 + 8 * 3),  # the longest run first
        ([asked(100, 2, said=True)], 256, 2 * 4 + 2 * 3),  # they begin apart
        ([], 256, 1),
    ],
)
def test_pages_are_counted_as_they_are_shared(requests: list[Request], max_concurrent: int, pages: int) -> None:
    """Prevents: a cache with the prompt repeated for each sibling, four times what the plan says, taken at once on a GPU."""
    assert cache.pages_wanted(requests, PARAMS, page_size=32, max_concurrent=max_concurrent)[0] == pages


def test_a_budget_without_room_for_one_completion_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    policy = load_tiny(tiny_folder("qwen3"))
    with pytest.raises(EngineError, match=r"rollout\.cache_gib"):
        NativeEngine(policy, cache_bytes=1000).generate([asked(100, 2)], PARAMS)


def test_two_open_streams_share_one_budget(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: twice the memory that was allowed, where a second stream begins before the first has ended."""
    policy = load_tiny(tiny_folder("qwen3"))
    each = cache.bytes_per_token(policy) * 32
    engine = NativeEngine(policy, cache_bytes=20 * each)
    with engine.awake():
        first = engine.stream([asked(100, 4)], PARAMS)  # 16 pages, from now on
        with pytest.raises(EngineError, match="keys and values"):
            engine.stream([asked(100, 1)], PARAMS)
        first.pause()
        assert len(list(engine.stream([asked(100, 1)], PARAMS))) == 1


def test_awake_may_be_entered_twice(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: an inner call that frees what the outer one keeps."""
    engine = NativeEngine(load_tiny(tiny_folder("qwen3")))
    with engine.awake():
        with engine.awake():
            engine.generate([asked(40, 1)], PARAMS)
        kept = engine._cache
        assert kept is not None
        engine.generate([asked(40, 1)], PARAMS)
        assert engine._cache is kept
    assert engine._cache is None


def test_free_memory_counts_file_caches_and_control_groups(tmp_path: Path) -> None:
    """Prevents: a host that has just read a checkpoint and looks full, and a container that is killed."""
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree:  5 kB\nMemAvailable:  60 kB\n")
    assert cache._free_on_host(tmp_path / "meminfo") == 60 * 1024
    assert cache._free_in_group(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("max\n")
    assert cache._free_in_group(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert cache._free_in_group(tmp_path) == 600
    assert cache.free_bytes(torch.device("cpu")) > 0


@pytest.mark.parametrize("seed", [0, 7, 2**62])
def test_random_numbers_come_in_blocks_and_are_the_same(seed: int) -> None:
    """Prevents: draws that change with the size of a block, and all numbers of a long answer held from its beginning."""
    wanted = torch.rand(700, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    uniforms = Uniforms(seed)
    assert uniforms[600] == wanted[600]
    assert [uniforms[number] for number in range(700)] == wanted
    assert len(uniforms._drawn) <= 768
