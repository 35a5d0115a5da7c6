"""Which engine a config means.

What it leaves out: how an engine works. vLLM's is imported when it is asked for.
"""

from __future__ import annotations

from pathlib import Path

from heron.config.schema import RolloutConfig
from heron.engine.hf import HFEngine
from heron.engine.native import NativeEngine
from heron.engine.protocol import Engine
from heron.models.policy import Policy

GIB = 2**30


def make_engine(rollout: RolloutConfig, policy: Policy) -> Engine:
    """The engine of these settings, on this policy."""
    cache_bytes = int(rollout.cache_gib * GIB) or None
    if rollout.engine == "native":
        return NativeEngine(policy, max_concurrent=rollout.max_concurrent, cache_bytes=cache_bytes)
    if rollout.engine == "hf":
        return HFEngine(policy, max_concurrent=rollout.max_concurrent)
    from heron.engine.vllm import ColocatedVllm, ServedVllm

    if rollout.vllm_url is None:
        return ColocatedVllm(policy, max_concurrent=rollout.max_concurrent, cache_bytes=cache_bytes)
    assert rollout.vllm_folder is not None, "the config checks it"
    return ServedVllm(policy, rollout.vllm_url, shared_folder=Path(rollout.vllm_folder), max_concurrent=rollout.max_concurrent)


def is_exact(engine: str) -> bool:
    """Whether the log-probs of the engine of this name are the trainer's own, before there is a policy."""
    return engine == "native"
