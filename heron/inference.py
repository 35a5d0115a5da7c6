"""A model to talk to, without training it: load once, ask as often as you like.

    model = heron.load("runs/first")
    [result] = model.fast_generate(["2 + 2 ="])
    print(result.text)

The one hard idea: what a prompt is depends on its type. A string is taken as it is, and continued; a list of messages goes through the
chat template, and is answered. What it leaves out: serving over HTTP (`heron serve`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heron.config.model import ModelConfig
from heron.engine import Engine, Request, SamplingParams, make_engine
from heron.errors import ConfigError
from heron.models import Policy, load_policy
from heron.models.of_run import config_of, newest_model
from heron.rollout import derived_seed
from heron.run import Run
from heron.types import Completion, FinishReason, Message, Tags

Prompts = str | Sequence[str | Sequence[Message]]
DEFAULT_PARAMS = SamplingParams(max_tokens=256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One answer."""

    text: str
    """Without its end token. An opening tag that the chat template has pre-filled stands in front."""
    token_ids: tuple[int, ...]
    """As they were sampled, the end token included."""
    logprobs: tuple[float, ...]
    """Of each token under the distribution that it was drawn from, in nats."""
    finish_reason: FinishReason
    """`stop` or `length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a prompt was answered. `text`, `token_ids`, `logprobs` and `finish_reason` are those of the first answer."""

    prompt_ids: tuple[int, ...]
    """The prompt's tokens."""
    outputs: tuple[Output, ...]
    """One per sibling."""

    @property
    def text(self) -> str:
        return self.outputs[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.outputs[0].token_ids

    @property
    def logprobs(self) -> tuple[float, ...]:
        return self.outputs[0].logprobs

    @property
    def finish_reason(self) -> FinishReason:
        return self.outputs[0].finish_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A policy and an engine that samples from it."""

    policy: Policy
    """Model and tokenizer."""
    engine: Engine
    """Samples."""

    @property
    def tokenizer(self) -> Any:
        return self.policy.tokenizer

    def fast_generate(
        self, prompts: Prompts, params: SamplingParams | None = None, *, n: int = 1, seed: int = 0
    ) -> list[Generation]:
        """Answers to prompts, in their order.

        Args:
            prompts: a text or several, continued as they are (a tokenizer that begins every text with a special token does so here, unless
                the text begins with it); or conversations, each a list of messages, answered.
            params: how to draw; by default up to 256 tokens at temperature 1.
            n: answers to each prompt.
            seed: the same prompts, seed and place in the list give the same answers.
        """
        _check_asked(params, n)
        read = [self._read(prompt) for prompt in _listed(prompts)]
        requests = [
            Request(prompt_ids=ids, seeds=tuple(derived_seed(seed, number, sibling) for sibling in range(n)))
            for number, (ids, _) in enumerate(read)
        ]
        with self.engine.awake():
            answers = self.engine.generate(requests, DEFAULT_PARAMS if params is None else params)
        return [
            Generation(prompt_ids=ids, outputs=tuple(self._output(opening, completion) for completion in siblings))
            for (ids, opening), siblings in zip(read, answers, strict=True)
        ]

    def chat(self, messages: str | Sequence[Message], params: SamplingParams | None = None, *, seed: int = 0) -> str:
        """The answer to a question, or to a whole conversation, as text."""
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return self.fast_generate([conversation], params, seed=seed)[0].text

    def _read(self, prompt: str | Sequence[Message]) -> tuple[tuple[int, ...], str]:
        """A prompt's tokens, and the opening tag that its template has written already."""
        if isinstance(prompt, str):
            _check_text(prompt)
            begin = self.tokenizer.bos_token
            ready = begin is not None and prompt.startswith(begin)
            return tuple(self.tokenizer(prompt, add_special_tokens=not ready)["input_ids"]), ""
        text = self.policy.render_text(prompt)
        _check_text(text)
        return self.policy.encode(text), self.policy.prefilled(text)

    def _output(self, opening: str, completion: Completion) -> Output:
        return Output(
            text=opening + self.policy.decode(completion.token_ids), token_ids=completion.token_ids, logprobs=completion.logprobs,
            finish_reason=completion.finish_reason,
        )


def load(
    path: str | Path, *, fast_inference: bool = True, dtype: Any = "auto", device: str = "auto", max_concurrent: int = 256,
    chat_template: str | None = None,
) -> LoadedModel:
    """Load a run's trained model, a model folder (whole, or an adapter whose base its adapter_config.json names), or a hub id.

    The arguments are those of `heron.load`.
    """
    given = {
        name: value for name, value in (("dtype", str(dtype).removeprefix("torch.")), ("device", device), ("chat_template", chat_template))
        if value not in ("auto", None)
    }
    policy = policy_at(Path(path), str(path), given)
    policy.model.eval()
    engine = make_engine("native" if fast_inference else "hf", policy, max_concurrent=max_concurrent)
    return LoadedModel(policy=policy, engine=engine)


def policy_at(path: Path, name: str, given: Mapping[str, Any]) -> Policy:
    """The policy that lies at a path, or has this hub id, with the settings that were given."""
    if (path / "run.json").is_file():
        run = Run(path)
        config = config_of(run)
        model, trained, start = replace(config.model, **given), newest_model(run), run.start_model
        if model.has_adapter:
            kept = run.manifest.get("quantization_kept")
            return load_policy(model, config.tags, source=start, adapter=trained, reference=False, kept=kept)
        return load_policy(model, config.tags, source=trained)
    if (path / "adapter_config.json").is_file():
        base = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        return load_policy(ModelConfig(name=base, method="lora", **given), Tags(), adapter=path)
    bare = ModelConfig(name=name, method="lora", **given)  # nothing is trained, so weights of 4 bits are welcome
    return load_policy(bare, Tags(), without_adapter=True)


def _check_asked(params: SamplingParams | None, n: int) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ConfigError(f"n must be a whole number, at least 1, but it is {n!r}.")
    if params is not None and not isinstance(params, SamplingParams):
        raise ConfigError(f"params must be SamplingParams or None, but it is {params!r}. Example: SamplingParams(max_tokens=64).")


def _listed(prompts: Prompts) -> list[str | Sequence[Message]]:
    """Several prompts; one conversation alone is taken for a mistake, for its messages are no prompts."""
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        _check_prompt(prompts)
    listed: list[str | Sequence[Message]] = [prompts] if isinstance(prompts, str) else list(prompts)
    for prompt in listed:
        _check_prompt(prompt)
    return listed


def _check_prompt(prompt: object) -> None:
    """A text, or a list of messages."""
    if isinstance(prompt, Mapping):
        raise ConfigError(f"{prompt!r} is a message and no prompt. A conversation is a list of messages: give fast_generate a list of "
                          "conversations, [[...]], also for a single one, or call chat([...]).")
    is_conversation = isinstance(prompt, list | tuple) and prompt and all(isinstance(message, Mapping) for message in prompt)
    if not isinstance(prompt, str) and not is_conversation:
        raise ConfigError(f'A prompt must be a text or a list of messages, but it is {prompt!r}. Example of a message: '
                          '{"role": "user", "content": "What is 2 + 2?"}.')


def _check_text(text: str) -> None:
    """It can be written in UTF-8, as tokenizers want it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"A prompt holds half a character ({text[error.start]!r}, a lone surrogate), which cannot be encoded: "
                          f"{text!r:.80}. Read its source with the right encoding, or take it out.") from error
