"""The body of a chat completion request, checked field by field.

The one hard idea: a server that ignores what it does not know gives answers that were not asked for. So every field is either
used, or accepted only at the value that changes nothing, or on the short list of those that are ignored; anything else is
refused with its name.

    used        messages, model, max_tokens, max_completion_tokens, temperature, n, seed, stream, stream_options
    neutral     top_p 1, frequency_penalty 0, presence_penalty 0, stop, logprobs, tools, response_format "text", ... unset
    ignored     user, metadata, store
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.errors import HeronError, did_you_mean
from heron.types import LEAST_TEMPERATURE, Message

USED = (
    "messages", "model", "max_tokens", "max_completion_tokens", "temperature", "n", "seed", "stream", "stream_options",
)
IGNORED = ("user", "metadata", "store")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "stop": ([], ""), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "response_format": ({"type": "text"},),
}
"""Values that change nothing; null is always one of them."""

MOST_ANSWERS = 64
"""Largest `n`."""


class Refusal(HeronError):
    """A request that is answered with an HTTP error."""

    def __init__(self, message: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a client wants."""

    messages: tuple[Message, ...]
    """The conversation so far; contents are text."""
    max_tokens: int | None
    """Longest answer; None: the model's default."""
    temperature: float
    """0 takes the likeliest token each time."""
    n: int
    """Answers."""
    seed: int
    """Decides what is drawn; answer k uses seed + k."""
    is_stream: bool
    """The answer is to be sent as server-sent events."""
    wants_usage: bool
    """The stream is to end with token counts."""


def parse(body: Any, *, model: str) -> ChatRequest:
    """The request that a decoded JSON body spells, or a `Refusal` about the first field that is wrong."""
    if not isinstance(body, dict):
        raise Refusal(f"The body must be a JSON object, but it is {body!r:.80}.")
    _check_fields(body)
    if body.get("model") not in (None, model):
        raise Refusal(f"There is no model {body['model']!r} here; this server has {model!r}.", status=404, field="model")
    longest = [_whole(body, name, least=1) for name in ("max_tokens", "max_completion_tokens")]
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict) or set(stream_options) - {"include_usage"}:
        raise Refusal(f"stream_options may hold include_usage, but it is {stream_options!r}.", field="stream_options")
    seed = _whole(body, "seed", least=0, most=2**62)
    return ChatRequest(
        messages=_messages(body), max_tokens=longest[1] if longest[0] is None else longest[0], temperature=_temperature(body),
        n=_whole(body, "n", least=1, most=MOST_ANSWERS) or 1, seed=secrets.randbits(62) if seed is None else seed,
        is_stream=_flag(body, "stream"), wants_usage=_flag(stream_options, "include_usage"),
    )


def _check_fields(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if name in NEUTRAL and value is not None and not any(value == neutral for neutral in NEUTRAL[name]):
            raise Refusal(f"{name} is not supported; leave it out (given: {value!r:.80}).", field=name)
        if name not in (*USED, *IGNORED, *NEUTRAL):
            raise Refusal(f"There is no field {name!r}.{did_you_mean(name, [*USED, *NEUTRAL])}", field=name)


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise Refusal(f"messages must be a list of at least one message, but it is {given!r:.80}.", field="messages")
    return tuple(_message(message, f"messages[{number}]") for number, message in enumerate(given))


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refusal(f'{place} must be an object with a "role" and a "content", but it is {message!r:.80}.', field=place)
    unknown = [key for key, value in message.items() if key not in ("role", "content") and value is not None]
    if unknown:
        raise Refusal(f"{place} has {unknown[0]!r}, which is not supported; a message has a role and a content.", field=place)
    return {"role": _encodable(message["role"], f"{place}.role"), "content": _encodable(_text(message.get("content"), place), place)}


def _text(content: Any, place: str) -> str:
    """The content as one text; it may be given in parts."""
    if isinstance(content, str):
        return content
    texts = [_part_text(part) for part in content] if isinstance(content, list) else [None]
    if None in texts:
        raise Refusal(f"{place}.content must be text, or a list of text parts, but it is {content!r:.80}.", field=place)
    return "".join(text for text in texts if text is not None)


def _encodable(text: str, place: str) -> str:
    """The text, if a tokenizer can read it: JSON can spell half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        what = f"{place} holds half a character ({half!r}, a lone surrogate), which is no text: {text!r:.80}."
        raise Refusal(what, field=place) from error
    return text


def _part_text(part: Any) -> str | None:
    is_text = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    return part["text"] if is_text else None


def _temperature(body: Mapping[str, Any]) -> float:
    value = body.get("temperature")
    if value is None:
        return 1.0
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (value == 0 or LEAST_TEMPERATURE <= value <= 100):
        raise Refusal(f"temperature must be 0 or a number from {LEAST_TEMPERATURE} to 100, but it is {value!r}.", field="temperature")
    return float(value)


def _whole(body: Mapping[str, Any], name: str, *, least: int, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise Refusal(f"{name} must be a whole number {span}, but it is {value!r}.", field=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(f"{name} must be true or false, but it is {value!r}.", field=name)
    return bool(value)
