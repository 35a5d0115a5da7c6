"""Which engine a name means.

What it leaves out: how an engine works. vLLM's is imported when it is asked for.
"""

from __future__ import annotations

from pathlib import Path

from heron.engine.hf import HFEngine
from heron.engine.native import NativeEngine
from heron.engine.protocol import Engine
from heron.models.policy import Policy

GIB = 2**30


def make_engine(
    name: str, policy: Policy, *, max_concurrent: int = 256, cache_gib: float = 0.0, vllm_url: str | None = None,
    vllm_folder: str | None = None,
) -> Engine:
    """The engine of this name on this policy; the settings are those of the config's section `rollout`."""
    cache_bytes = int(cache_gib * GIB) or None
    if name == "native":
        return NativeEngine(policy, max_concurrent=max_concurrent, cache_bytes=cache_bytes)
    if name == "hf":
        return HFEngine(policy, max_concurrent=max_concurrent)
    assert name == "vllm", "the config knows these three"
    from heron.engine.vllm import ColocatedVllm, ServedVllm

    if vllm_url is None:
        return ColocatedVllm(policy, max_concurrent=max_concurrent, cache_bytes=cache_bytes)
    assert vllm_folder is not None, "the config asks for both or neither"
    return ServedVllm(policy, vllm_url, shared_folder=Path(vllm_folder), max_concurrent=max_concurrent)


def check_installed(name: str, *, vllm_url: str | None = None) -> None:
    """Refuse an engine whose package is absent, before there is a policy. A server has its own packages."""
    if name == "vllm" and vllm_url is None:
        from heron.engine.vllm import in_process

        in_process.check_installed()


def is_exact(engine: str) -> bool:
    """Whether the log-probs of the engine of this name are the trainer's own, before there is a policy."""
    return engine == "native"
