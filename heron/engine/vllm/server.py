"""vLLM as a server that runs already: sampled over HTTP, weights pushed through a folder that both sides see.

The one hard idea: a server may be anybody's, so nothing about it is assumed. The probe finds another base model, raw log-probs, a push that
did not arrive. Adapters are pushed by vLLM's own endpoint; every weight of a full model only where the server runs in development mode,
which has an endpoint for it. One HTTP request is one answer, since vLLM takes one seed per request. What it leaves out: entropies,
structured output, sleep (the server's GPU is its own), and the tokens of answers that are paused under way: they are sampled again.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from heron.engine.checks import check_requests
from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Progress, Request, in_order
from heron.engine.vllm.answers import Answer, answers_to
from heron.engine.vllm.arguments import refuse, sampling_arguments
from heron.engine.vllm.client import Calls, Client
from heron.engine.vllm.probe import Drawn, Probe
from heron.engine.vllm.weights import Adapter, Names, write_adapter, write_tensors
from heron.errors import EngineError
from heron.models.policy import Policy
from heron.types import Completion

PROBE_LENGTH = 257
"""Tokens of the probe: two blocks of 128 and one, the largest blocks that vLLM uses by default."""
HOW_ADAPTERS = ("Start it with --enable-lora --max-lora-rank RANK and the environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "
                "(docs/vllm.md has the whole line).")
HOW_TENSORS = ("Train an adapter instead (model.method=lora), or start the server with the environment variable VLLM_SERVER_DEV_MODE=1, "
               "on a machine that only you can reach.")


class ServedVllm:
    """Samples from a running vLLM server.

    Args:
        policy: the trainer's model, tokenizer and version; the server has the same base model.
        url: of the server.
        shared_folder: where adapters are written for the server to read, under the same path on both sides.
        model: the base model's name on the server. None: the first one that it lists.
        max_concurrent: most requests under way at once.
        timeout: seconds that any one request may take; an answer is one request.
        api_key: the server's, if it has one.
        limit: nats by which the probe's log-probs may differ. None: by dtype (`probe.LIMITS`).
    """

    exact_logprobs = False

    def __init__(
        self, policy: Policy, url: str, *, shared_folder: Path, model: str | None = None, max_concurrent: int = 256,
        timeout: float = 600.0, api_key: str | None = None, limit: float | None = None,
    ) -> None:
        self.policy = policy
        self.client = Client(url, timeout=timeout, api_key=api_key)
        self.shared_folder = shared_folder.absolute()
        self.model = model
        self.max_concurrent = max_concurrent
        self.limit = limit
        self.adapter: Adapter | None = None
        """What was pushed last, where an adapter is trained."""
        self._names = Names()
        self._probe: Probe | None = None
        self._pushed: int | None = None
        self._open: ServedStream | None = None

    @property
    def mismatch(self) -> float | None:
        """The probe's largest gap of log-probs at the last push, in nats; None before the first."""
        return None if self._probe is None else self._probe.gap

    @property
    def asked_for(self) -> str:
        """The model that requests name: the adapter, or the base model."""
        assert self.model is not None
        return self.model if self.adapter is None else self.adapter.name

    def sync(self) -> None:
        """The weights have changed: they are pushed before anything else is sampled."""
        self._pushed = None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Push what has changed; on leaving, an open stream is hung up."""
        self.ready()
        try:
            yield
        finally:
            self.close_stream()

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> ServedStream:
        """Completions one by one, as they finish. `on_token` is called after each of them. One stream at a time."""
        check_requests(requests, params, self.policy)
        answers = answers_to(requests, params)
        refuse(params, answers)
        self.ready()
        self.close_stream()
        self._open = ServedStream(self, answers, params, on_token)
        return self._open

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        return in_order(requests, self.stream(requests, params, on_token=on_progress))

    def ready(self) -> None:
        """The server has the newest weights."""
        if self.model is None:
            listed = self.client.good("GET", "/v1/models", awaited="its list of models")["data"]
            self.model = str(next(model["id"] for model in listed if model.get("parent") is None))
        if self._probe is None:
            length = min(PROBE_LENGTH, (self.policy.context_length or PROBE_LENGTH + 1) - 1)
            self._probe = Probe(self.policy, length=length, limit=self.limit)
        if self._pushed != self.policy.version:
            self.close_stream()
            (self._push_adapter if self.policy.is_lora else self._push_tensors)()
            self._probe.check(_Asking(self))
            self._pushed = self.policy.version

    def close_stream(self) -> None:
        """Hang up what an open stream has left."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def close(self) -> None:
        """Take our adapter from the server."""
        self.close_stream()
        self._drop_adapter()
        self._pushed = None

    def _push_adapter(self) -> None:
        adapter = self._names.next(self.policy.version, self.shared_folder)
        self._drop_adapter()
        write_adapter(self.policy, adapter.folder)
        body = {"lora_name": adapter.name, "lora_path": str(adapter.folder)}
        reply = self.client.call("POST", "/v1/load_lora_adapter", body, awaited=f"the loading of adapter {adapter.name}")
        if not reply.is_good:
            shutil.rmtree(adapter.folder, ignore_errors=True)
            raise EngineError(f"vLLM at {self.client.url} did not load the adapter {adapter.name} from {adapter.folder}: HTTP "
                              f"{reply.status}: {str(reply.body)[:400]}. It must see this folder under the same path. {HOW_ADAPTERS}")
        self.adapter = adapter

    def _drop_adapter(self) -> None:
        if self.adapter is None:
            return
        gone, self.adapter = self.adapter, None
        body = {"lora_name": gone.name}
        self.client.good("POST", "/v1/unload_lora_adapter", body, awaited=f"the unloading of adapter {gone.name}")
        shutil.rmtree(gone.folder, ignore_errors=True)

    def _push_tensors(self) -> None:
        """All weights through vLLM's development endpoints, which a server for others does not have."""
        reply = self.client.call("POST", "/reset_prefix_cache", {}, awaited="the emptying of its prefix cache")
        if reply.status == 404:
            raise EngineError(f"model.method is full, but vLLM at {self.client.url} takes no new base weights. {HOW_TENSORS}")
        folder = self._names.next(self.policy.version, self.shared_folder).folder
        try:
            write_tensors(self.policy, folder)
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
            self.client.good("POST", "/collective_rpc", body, awaited=f"the loading of weights from {folder}")
            self.client.good("POST", "/reset_prefix_cache", {}, awaited="the emptying of its prefix cache")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class ServedStream:
    """Completions in the order in which they finish. Requests are sent when the first one is asked for."""

    def __init__(self, engine: ServedVllm, answers: Sequence[Answer], params: SamplingParams, on_token: Progress | None) -> None:
        self._engine, self._params, self._on_token = engine, params, on_token
        self._version = engine.policy.version
        self._total, self._open = len(answers), list(answers)
        self._done: queue.SimpleQueue[tuple[Answer, Future[Any]]] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._calls = Calls()

    def __iter__(self) -> ServedStream:
        return self

    def __next__(self) -> Finished:
        if not self._open:
            raise StopIteration
        if self._engine.policy.version != self._version:
            raise EngineError(f"The weights have changed (version {self._version} to {self._engine.policy.version}) while completions were "
                              "in the making. Pause the stream before an update, and continue them with Request.said.")
        try:
            answer = self._next_answer()
        except BaseException:  # boundary: whatever ends the wait, Ctrl-C too, ends the requests under way
            self.close()
            raise
        self._open.remove(answer)
        if self._on_token is not None:
            self._on_token(self._total - len(self._open), self._total)
        if not self._open:
            self.close()
        return answer.finished(self._version)

    def pause(self) -> list[Finished]:
        """End here. Returns what has not been handed out: finished ones, and the others as they were before this stream."""
        while not self._done.empty():
            answer, future = self._done.get()
            if future.exception() is None:
                _hear(answer, future.result())
        rest = [answer.finished(self._version) for answer in self._open]
        self.close()
        return rest

    def close(self) -> None:
        """Hang up; nothing more comes."""
        self._open = []
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._calls.hang_up()
            self._threads.shutdown(wait=True)
            self._threads = None

    def _next_answer(self) -> Answer:
        """The next one that is complete."""
        if self._threads is None:
            self._send()
        seconds = self._engine.client.timeout
        try:
            answer, future = self._done.get(timeout=seconds)
        except queue.Empty:
            raise EngineError(f"No answer of {len(self._open)} that are open has come from {self._engine.client.url} within {seconds:g} "
                              "seconds. Raise the engine's timeout, or look into the server's log.") from None
        _hear(answer, future.result())
        return answer

    def _send(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=self._engine.max_concurrent, thread_name_prefix="heron-vllm")
        for answer in self._open:
            future = self._threads.submit(self._ask, answer)
            future.add_done_callback(lambda done, answer=answer: self._done.put((answer, done)))  # type: ignore[misc]

    def _ask(self, answer: Answer) -> Any:
        arguments = sampling_arguments(answer, self._params, self._engine.policy)
        return _complete(
            self._engine, answer.context, arguments, awaited=f"answer {answer.sibling} to prompt {answer.request}", calls=self._calls
        )


class _Asking:
    """The probe's two questions, asked over HTTP."""

    def __init__(self, engine: ServedVllm) -> None:
        self._engine = engine

    def drawn(self, token_ids: Sequence[int], temperature: float) -> Drawn:
        body = self._one(token_ids, {"temperature": temperature, "logprobs": 0, "seed": 0})
        (choice,) = body["choices"]
        cached = (body.get("usage", {}).get("prompt_tokens_details") or {}).get("cached_tokens")
        return Drawn(token=choice["token_ids"][0], logprob=choice["logprobs"]["token_logprobs"][0], cached_tokens=cached)

    def forced(self, token_ids: Sequence[int]) -> list[float]:
        (choice,) = self._one(token_ids, {"temperature": 0.0, "prompt_logprobs": 0})["choices"]
        entries = choice["prompt_logprobs"][1:]
        return [entry[str(token)]["logprob"] for token, entry in zip(token_ids[1:], entries, strict=True)]

    def _one(self, token_ids: Sequence[int], arguments: dict[str, Any]) -> Any:
        neutral = {"max_tokens": 1, "ignore_eos": True, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        return _complete(self._engine, token_ids, {**neutral, **arguments}, awaited="the probe of its weights")


def _complete(
    engine: ServedVllm, token_ids: Sequence[int], arguments: dict[str, Any], *, awaited: str, calls: Calls | None = None
) -> Any:
    """One request for one answer."""
    body = {"model": engine.asked_for, "prompt": list(token_ids), "n": 1, "return_token_ids": True, **arguments}
    return engine.client.good("POST", "/v1/completions", body, awaited=awaited, calls=calls)


def _hear(answer: Answer, body: Any) -> None:
    (choice,) = body["choices"]
    if choice.get("token_ids") is None:
        raise EngineError("The server sends no token ids. Heron needs those that were sampled, not text; use vLLM 0.32 or newer.")
    answer.hear(choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"])
