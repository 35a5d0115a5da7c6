"""vLLM in the trainer's process: started when it is first needed, asleep while the trainer trains.

The one hard idea: weights are pushed when vLLM wakes, not when they change. `sync` only notes that they did, so several updates cost one
push, nothing is pushed into a sleeping engine, and nothing is sampled before the probe has passed. What it leaves out: entropies,
structured output, several GPUs; and it has no exact log-probs: corrections for the mismatch may be on.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence

from heron.engine.checks import check_requests
from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Progress, Request, in_order
from heron.engine.vllm.answers import Answer, answers_to
from heron.engine.vllm.arguments import refuse, sampling_arguments
from heron.engine.vllm.in_process import Heard, Library, Settings
from heron.engine.vllm.probe import Drawn, Probe
from heron.engine.vllm.weights import Adapter, Names, named_tensors, room_for, short_lived_folder, write_adapter
from heron.errors import EngineError
from heron.models.policy import Policy
from heron.types import Completion


class ColocatedVllm:
    """Samples with vLLM from a copy of the policy's weights.

    Args:
        policy: the trainer's model, tokenizer and version.
        max_concurrent: most answers in the making at once.
        cache_bytes: memory for keys and values. None leaves it to vLLM.
        max_model_len: most tokens of a prompt with its answer. None: the model's context.
        gpu_memory_utilization: share of the GPU that vLLM may take while it is awake.
        limit: nats by which the probe's log-probs may differ. None: by dtype (`probe.LIMITS`).
        stall_seconds: longest wait for any token.
    """

    exact_logprobs = False

    def __init__(
        self, policy: Policy, *, max_concurrent: int = 256, cache_bytes: int | None = None, max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.4, limit: float | None = None, stall_seconds: float = 600.0,
    ) -> None:
        self.policy = policy
        self.limit = limit
        self.stall_seconds = stall_seconds
        self.settings = Settings(
            model=policy.source, dtype=policy.dtype, max_model_len=max_model_len, max_concurrent=max_concurrent,
            lora_rank=room_for(policy) if policy.is_lora else None, cache_bytes=cache_bytes,
            gpu_memory_utilization=gpu_memory_utilization, is_cuda=policy.device.type == "cuda",
        )
        self.adapter: Adapter | None = None
        """What was pushed last, where an adapter is trained."""
        self._names = Names()
        self._library: Library | None = None
        self._probe: Probe | None = None
        self._pushed: int | None = None
        self._is_asleep = False
        self._open: VllmStream | None = None

    @property
    def mismatch(self) -> float | None:
        """The probe's largest gap of log-probs at the last push, in nats; None before the first."""
        return None if self._probe is None else self._probe.gap

    def sync(self) -> None:
        """The weights have changed: they are pushed before anything else is sampled."""
        self._pushed = None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Start or wake vLLM and push what has changed; on leaving, its weights go to the host's memory and its cache is freed."""
        library = self.ready()
        try:
            yield
        finally:
            self.close_stream()
            library.sleep()
            self._is_asleep = True

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> VllmStream:
        """Completions one by one, as they finish. One stream at a time: what another has left is taken out."""
        check_requests(requests, params, self.policy)
        answers = answers_to(requests, params)
        refuse(params, answers)
        library = self.ready()
        _check_lengths(answers, params, library.max_model_len)
        self.close_stream()
        self._open = VllmStream(self, library, answers, params, on_token)
        return self._open

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        return in_order(requests, self.stream(requests, params, on_token=on_progress))

    def ready(self) -> Library:
        """vLLM, awake and with the newest weights."""
        if self._library is None:
            self._library = Library(self.settings)
            length = min(2 * self._library.block_size + 1, self._library.max_model_len - 1)
            self._probe = Probe(self.policy, length=length, limit=self.limit)
        if self._is_asleep:
            self._library.wake()
            self._is_asleep = False
        if self._pushed != self.policy.version:
            self._push(self._library)
        return self._library

    def close_stream(self) -> None:
        """Take out what an open stream has left."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def close(self) -> None:
        """End vLLM; the next use starts it again."""
        self.close_stream()
        if self._library is not None:
            self._library.close()
        self._library, self._probe, self._pushed, self._is_asleep = None, None, None, False

    def _push(self, library: Library) -> None:
        """The newest weights, an empty prefix cache, and a probe that says so."""
        assert self._probe is not None
        self.close_stream()
        if self.policy.is_lora:
            self._push_adapter(library)
        else:
            library.push_tensors(named_tensors(self.policy))
        library.reset_cache()
        self._probe.check(_Asking(library, self.adapter, self.stall_seconds))
        self._pushed = self.policy.version

    def _push_adapter(self, library: Library) -> None:
        with short_lived_folder() as folder:
            adapter = self._names.next(self.policy.version, folder)
            write_adapter(self.policy, adapter.folder)
            if self.adapter is not None:
                library.drop_adapter(self.adapter)
                self.adapter = None
            library.push_adapter(adapter)
        self.adapter = adapter


class VllmStream:
    """Completions in the order in which they finish. vLLM steps only while somebody asks for the next one."""

    def __init__(
        self, engine: ColocatedVllm, library: Library, answers: Sequence[Answer], params: SamplingParams, on_token: Progress | None
    ) -> None:
        self._engine, self._library, self._on_token = engine, library, on_token
        self._version = engine.policy.version
        self._total = len(answers)
        self._answers = {f"{id(self)}-{number}": answer for number, answer in enumerate(answers)}
        self._ready: deque[Finished] = deque()
        for key, answer in self._answers.items():
            library.begin(key, answer.context, sampling_arguments(answer, params, engine.policy), engine.adapter)

    def __iter__(self) -> VllmStream:
        return self

    def __next__(self) -> Finished:
        while not self._ready and self._answers:
            self._step()
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def pause(self) -> list[Finished]:
        """End here. Returns what has not been handed out: finished ones, and the others with what they have said."""
        rest = [*self._ready, *(answer.finished(self._version) for answer in self._answers.values())]
        self.close()
        return rest

    def close(self) -> None:
        """Take out what is still running."""
        self._library.abort(list(self._answers))
        self._answers.clear()
        self._ready.clear()

    def _step(self) -> None:
        if self._engine.policy.version != self._version:
            raise EngineError(f"The weights have changed (version {self._version} to {self._engine.policy.version}) while completions were "
                              "in the making. Pause the stream before an update, and continue them with Request.said.")
        for heard in _next_heard(self._library, self._engine.stall_seconds):
            answer = self._answers[heard.key]
            answer.hear(heard.token_ids, heard.logprobs, heard.reason)
            if heard.reason is not None:
                self._ready.append(answer.finished(self._version))
                del self._answers[heard.key]
        if self._on_token is not None:
            self._on_token(self._total - len(self._answers), self._total)


class _Asking:
    """The probe's two questions, asked of vLLM in this process."""

    def __init__(self, library: Library, adapter: Adapter | None, stall_seconds: float) -> None:
        self._library, self._adapter, self._stall_seconds = library, adapter, stall_seconds

    def drawn(self, token_ids: Sequence[int], temperature: float) -> Drawn:
        heard = self._one("probe-drawn", token_ids, {"temperature": temperature, "logprobs": 0, "seed": 0})
        return Drawn(token=heard.token_ids[0], logprob=heard.logprobs[0], cached_tokens=heard.cached_tokens)

    def forced(self, token_ids: Sequence[int]) -> list[float]:
        return list(self._one("probe-forced", token_ids, {"temperature": 0.0, "prompt_logprobs": 0}).prompt_logprobs)

    def _one(self, key: str, token_ids: Sequence[int], arguments: dict[str, object]) -> Heard:
        """The only answer; one token."""
        self._library.begin(key, token_ids, {"max_tokens": 1, "ignore_eos": True, **arguments}, self._adapter)
        try:
            (heard,) = _next_heard(self._library, self._stall_seconds)
        finally:
            self._library.abort([key])
        return heard


def _next_heard(library: Library, stall_seconds: float) -> list[Heard]:
    """Step until something is heard; an EngineError if nothing is for too long."""
    began = time.monotonic()
    while not (heard := library.step()):
        if time.monotonic() - began > stall_seconds:
            raise EngineError(f"vLLM has not said a token for {stall_seconds:g} seconds, though answers are waiting. Look into its log; a "
                              "cache that is too small for one answer is a common cause (cache_bytes, gpu_memory_utilization).")
    return heard


def _check_lengths(answers: Sequence[Answer], params: SamplingParams, limit: int) -> None:
    longest = max((len(answer.prompt_ids) for answer in answers), default=0)
    if longest + params.max_tokens > limit:
        raise EngineError(f"A prompt of {longest} tokens and up to {params.max_tokens} new ones exceed what vLLM was started for, {limit}. "
                          "Raise the engine's max_model_len, shorten the prompt, or ask for fewer new tokens "
                          "(rollout.max_completion_length in a run).")
