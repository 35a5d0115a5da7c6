"""A loaded model that answers chat completion requests, one at a time.

The one hard idea: what the server says is what training saw. Prompts are rendered by the policy, sampled by the engine that
trained it, and an opening tag that the template wrote into the prompt is given back as part of the answer. Left out: batching
requests of several clients (the answers of one request are batched), and adding the run's system prompt: clients send their own.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heron.config import load_config
from heron.engine import Engine, NativeEngine, Request, SamplingParams
from heron.errors import EngineError, RunError, TemplateError
from heron.inference import policy_at
from heron.models import Policy
from heron.serving.requests import ChatRequest, Refusal
from heron.types import Completion

MAX_TOKENS = 512
"""Longest answer of a model folder where the request names none; a run uses its own `rollout.max_completion_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """One model behind one lock."""

    name: str
    """What clients call it."""
    policy: Policy
    """Renders and decodes."""
    engine: Engine
    """Samples; used by one request at a time."""
    max_tokens: int
    """Longest answer where the request names none."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while sampling."""

    def complete(self, request: ChatRequest) -> dict[str, Any]:
        """The `chat.completion` object that answers a request."""
        text, prompt_ids = self._render(request)
        completions = self._sample(request, prompt_ids)
        opening = self.policy.prefilled(text)
        generated = sum(len(completion.token_ids) for completion in completions)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()), "model": self.name,
            "choices": [self._choice(index, completion, opening) for index, completion in enumerate(completions)],
            "usage": {
                "prompt_tokens": len(prompt_ids), "completion_tokens": generated, "total_tokens": len(prompt_ids) + generated,
            },
        }

    def _render(self, request: ChatRequest) -> tuple[str, tuple[int, ...]]:
        try:
            text = self.policy.render_text(request.messages)
        except TemplateError as error:
            raise Refusal(str(error), field="messages") from error
        return text, self.policy.encode(text)

    def _sample(self, request: ChatRequest, prompt_ids: tuple[int, ...]) -> Sequence[Completion]:
        seeds = tuple(range(request.seed, request.seed + request.n))
        params = SamplingParams(max_tokens=self._longest(request, len(prompt_ids)), temperature=request.temperature)
        try:
            with self.lock, self.engine.awake():
                return self.engine.generate([Request(prompt_ids=prompt_ids, seeds=seeds)], params)[0]
        except EngineError as error:
            raise Refusal(str(error)) from error

    def _longest(self, request: ChatRequest, prompt_tokens: int) -> int:
        """As asked for; else the default, or what the context has room for."""
        if request.max_tokens is not None:
            return request.max_tokens
        limit = self.policy.context_length
        return self.max_tokens if limit is None else max(1, min(self.max_tokens, limit - prompt_tokens))

    def _choice(self, index: int, completion: Completion, opening: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": opening + self.policy.decode(completion.token_ids)}
        return {"index": index, "message": message, "finish_reason": str(completion.finish_reason)}


def events(answer: dict[str, Any], *, wants_usage: bool) -> Iterator[str]:
    """The same answer as server-sent events: the whole text of a choice in one chunk, then why it ended."""
    shared = {key: answer[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in answer["choices"]:
        for delta, reason in ((choice["message"], None), ({}, choice["finish_reason"])):
            yield _event(shared | {"choices": [{"index": choice["index"], "delta": delta, "finish_reason": reason}]})
    if wants_usage:
        yield _event(shared | {"choices": [], "usage": answer["usage"]})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def open_model(source: str | Path) -> ChatModel:
    """Load a run's trained model, or a model folder (whole, or an adapter whose base its adapter_config.json names)."""
    path = Path(source)
    if not any((path / name).is_file() for name in ("run.json", "adapter_config.json", "config.json")):
        raise RunError(f"{path} is neither a run (run.json) nor a model folder (config.json). Name a folder that `heron train` or "
                       "`heron export` wrote.")
    is_run = (path / "run.json").is_file()
    longest = load_config(path / "config.toml").rollout.max_completion_length if is_run else MAX_TOKENS
    policy = policy_at(path, str(path), {})
    return ChatModel(name=path.resolve().name, policy=policy, engine=NativeEngine(policy), max_tokens=longest)
