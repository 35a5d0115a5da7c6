"""The body of a request, checked field by field.

The one hard idea: a server that ignores what it does not know gives answers that were not asked for. So every field is either
used, or accepted only at the value that changes nothing, or on the short list of those that are ignored; anything else is
refused with its name.

    used        USED, with CHAT or TEXT
    neutral     NEUTRAL: accepted where it changes nothing
    ignored     IGNORED: they say who asks, or what is to be kept, and change no answer
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.engine import SamplingParams
from heron.engine.structure import Structure
from heron.errors import ConfigError, did_you_mean
from heron.serving.fields import Body, Refusal, encodable, flag, number, texts, unsupported, whole
from heron.serving.messages import read_messages, read_tools
from heron.types import LEAST_TEMPERATURE, Message

USED = (
    "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "n", "seed", "stop", "stream", "stream_options",
    "logprobs",
)
CHAT = ("messages", "max_completion_tokens", "max_completion_length", "response_format", "tools", "tool_choice")
TEXT = ("prompt",)
IGNORED = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0), "top_logprobs": (0,), "logit_bias": ({},), "functions": ([],),
    "echo": (False,), "best_of": (1,), "suffix": ("",), "parallel_tool_calls": (True, False),
    "modalities": (["text"],), "service_tier": ("auto", "default"),
    "reasoning_effort": (), "audio": (), "prediction": (), "verbosity": (), "web_search_options": (), "function_call": ("none", "auto"),
}
"""Values that change nothing; null is always one of them."""

MOST_ANSWERS = 64
"""Largest `n`, and most prompts of one request."""
MOST_STOPS = 16
"""Most stop strings."""
LONGEST_SCHEMA = 50_000
"""Characters of a JSON schema: all wait while one is compiled, which takes seconds where it is long."""
LONGEST_STOP = 1000
"""Characters of a stop string: each of an answer's steps looks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What both kinds of requests share."""

    max_tokens: int | None
    """Longest answer; None: the model's default."""
    params: SamplingParams
    """How to draw; its `max_tokens` is to be replaced."""
    n: int
    """Answers to each prompt."""
    seed: int
    """Decides what is drawn; answer k uses seed + k."""
    has_logprobs: bool
    """Each token's log-prob is wanted."""
    is_stream: bool
    """The answer is to be sent as server-sent events."""
    wants_usage: bool
    """The stream is to end with token counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a client of `/v1/chat/completions` wants."""

    wanted: Wanted
    messages: tuple[Message, ...]
    """The conversation so far; contents are text."""
    tools: tuple[dict[str, Any], ...]
    """Schemas that the template writes into the prompt, whose calls are told apart from the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """What a client of `/v1/completions` wants."""

    wanted: Wanted
    prompts: tuple[str | tuple[int, ...], ...]
    """Texts, or tokens, that are continued as they are."""


def parse_chat(body: Any, *, model: str) -> ChatRequest:
    """The request that a decoded JSON body spells, or a `Refusal` about the first field that is wrong."""
    read = _checked(body, CHAT, model)
    tools, structure = read_tools(read), _structure(read)
    if tools and read.get("parallel_tool_calls") is False:
        raise unsupported("parallel_tool_calls", False, "nothing keeps an answer from more than one call; leave it out")
    if tools and structure is not None:
        raise Refusal("response_format and tools exclude each other: a call would not fit the format. Leave out one.",
                      field="response_format")
    wanted = _wanted(read, structure, has_logprobs=flag(read, "logprobs"))
    return ChatRequest(wanted=wanted, messages=read_messages(read), tools=tools)


def parse_text(body: Any, *, model: str) -> TextRequest:
    """The same of `/v1/completions`."""
    read = _checked(body, TEXT, model)
    if read.get("logprobs") not in (None, 0) or isinstance(read.get("logprobs"), bool):
        raise unsupported("logprobs", read["logprobs"], "0 gives the log-prob of each token that was said; leave it out, or give 0")
    return TextRequest(wanted=_wanted(read, None, has_logprobs=read.get("logprobs") == 0), prompts=_prompts(read))


def _checked(body: Any, own: tuple[str, ...], model: str) -> Body:
    if not isinstance(body, dict):
        raise Refusal(f"The body must be a JSON object, but it is {body!r:.80}.")
    used = (*USED, *own)
    for name, value in body.items():
        if name in used or name in IGNORED:
            continue
        if name not in NEUTRAL:
            advice = did_you_mean(name[:80], [*used, *NEUTRAL])
            raise Refusal(f"There is no field {name[:80]!r}.{advice}", field=name[:80], code="unknown_parameter")
        if value is not None and not any(type(value) is type(neutral) and value == neutral for neutral in NEUTRAL[name]):
            raise unsupported(name, value)
    if body.get("model") not in (None, model):
        raise Refusal(f"There is no model {body['model']!r:.80} here; this server has {model!r}.", status=404, field="model",
                      code="model_not_found")
    return body


def _wanted(body: Body, structure: Structure | None, *, has_logprobs: bool) -> Wanted:
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict) or set(stream_options) - {"include_usage"}:
        raise Refusal(f"stream_options may hold include_usage, but it is {stream_options!r:.80}.", field="stream_options")
    seed = whole(body, "seed", least=0, most=2**62)
    return Wanted(
        max_tokens=_longest(body), params=_params(body, structure), n=whole(body, "n", least=1, most=MOST_ANSWERS) or 1,
        seed=secrets.randbits(62) if seed is None else seed, has_logprobs=has_logprobs, is_stream=flag(body, "stream"),
        wants_usage=flag(stream_options, "include_usage"),
    )


def _longest(body: Body) -> int | None:
    names = ("max_completion_tokens", "max_completion_length", "max_tokens")
    given = {name: value for name in names if (value := whole(body, name, least=1)) is not None}
    if len(set(given.values())) > 1:
        raise Refusal(f"{' and '.join(given)} say different things; give one of them.", field=next(iter(given)))
    return next(iter(given.values()), None)


def _params(body: Body, structure: Structure | None) -> SamplingParams:
    try:
        return SamplingParams(
            max_tokens=1, temperature=number(body, "temperature", 1.0, least=LEAST_TEMPERATURE, most=100),
            top_p=number(body, "top_p", 1.0, least=1e-6, most=1, zero=False), top_k=whole(body, "top_k", least=0) or 0,
            min_p=number(body, "min_p", 0.0, least=0, most=1),
            repetition_penalty=number(body, "repetition_penalty", 1.0, least=0.01, most=100, zero=False),
            stop=texts(body, "stop", most=MOST_STOPS, longest=LONGEST_STOP), structure=structure,
        )
    except ConfigError as error:
        raise Refusal(str(error)) from error


def _structure(body: Body) -> Structure | None:
    """What the answer must match."""
    given = body.get("response_format")
    kind = given.get("type") if isinstance(given, dict) else given
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return Structure.of_schema({"type": "object"})
    wrapped = given["json_schema"] if isinstance(given, dict) and kind == "json_schema" and "json_schema" in given else None
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    if not isinstance(schema, dict):
        raise Refusal('response_format must be {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": '
                      f'{{"name": ..., "schema": {{...}}}}}}, but it is {given!r:.80}.', field="response_format")
    structure = Structure.of_schema(schema)
    if (length := len(structure.json_schema)) > LONGEST_SCHEMA:
        raise Refusal(f"The schema has {length} characters; {LONGEST_SCHEMA} are the most. Make it shorter.", field="response_format")
    return structure


def _prompts(body: Body) -> tuple[str | tuple[int, ...], ...]:
    given = body.get("prompt")
    is_one = isinstance(given, str) or (isinstance(given, list) and all(_is_token(each) for each in given))
    listed = [given] if is_one else given
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_ANSWERS or not all(map(_is_prompt, listed)):
        raise Refusal(f"prompt must be a text, a list of token numbers, or a list of up to {MOST_ANSWERS} of either, none empty, but it is "
                      f"{given!r:.80}.", field="prompt")
    return tuple(encodable(prompt, "prompt") if isinstance(prompt, str) else tuple(prompt) for prompt in listed)


def _is_prompt(value: Any) -> bool:
    return bool(value) and (isinstance(value, str) or (isinstance(value, list) and all(_is_token(each) for each in value)))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
