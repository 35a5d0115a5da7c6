"""The conversation and the tools of a chat request, as a chat template wants them.

The one hard idea: what a client sends back is what it was given, so calls of tools and the reasoning beside an answer come as they went,
except that arguments, JSON text on the wire, become the object that templates write out. What it leaves out: pictures and sound.
"""

from __future__ import annotations

import json
from typing import Any

from heron.serving.fields import Body, Refusal, encodable
from heron.types import Message

EXTRAS = {
    "assistant": ("tool_calls", "reasoning_content", "name"), "tool": ("tool_call_id", "name"), "user": ("name",), "system": ("name",),
}
"""Roles, and the fields of a message beside its role and content; null stands for an absent one."""
ALIASES = {"developer": "system"}
"""OpenAI's newer names of roles, which templates do not know."""


def read_messages(body: Body) -> tuple[Message, ...]:
    """The messages, or a `Refusal` that says which is wrong."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise Refusal(f"messages must be a list of at least one message, but it is {given!r:.80}.", field="messages")
    return tuple(_message(message, f"messages[{place}]") for place, message in enumerate(given))


def read_tools(body: Body) -> tuple[dict[str, Any], ...]:
    """Tools that the model is to be told of; none if it must not call any."""
    given = body.get("tools") or []
    if not isinstance(given, list):
        raise Refusal(f"tools must be a list, but it is {given!r:.80}.", field="tools")
    for place, tool in enumerate(given):
        _check_tool(tool, f"tools[{place}]")
    choice = body.get("tool_choice")
    if choice not in (None, "none", "auto"):
        raise Refusal(f'tool_choice must be "auto" or "none": a call cannot be forced here. It is {choice!r:.80}.', field="tool_choice",
                      code="unsupported_value")
    return () if choice == "none" else tuple(given)


def _check_tool(tool: Any, place: str) -> None:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    is_named = isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]
    if not isinstance(function, dict) or not is_named or not isinstance(function.get("parameters", {}), dict):
        raise Refusal(f'{place} must be {{"type": "function", "function": {{"name": ..., "parameters": {{...}}}}}}, but it is '
                      f"{tool!r:.80}.", field=place)
    encodable(json.dumps(tool, ensure_ascii=False), place)


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refusal(f'{place} must be an object with a "role" and a "content", but it is {message!r:.80}.', field=place)
    role = ALIASES.get(message["role"], message["role"])
    if role not in EXTRAS:  # some templates say nothing, and leave the message out
        raise Refusal(f"{place}.role must be one of {', '.join((*EXTRAS, *ALIASES))}, but it is {role!r:.80}.", field=f"{place}.role")
    extras = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    known = EXTRAS[role]
    if unknown := [key for key in extras if key not in known]:
        raise Refusal(f"{place} has {unknown[0]!r}, which is not supported in a message of {role!r}.", field=place)
    content = message.get("content")
    says_nothing = content is None and role == "assistant" and "tool_calls" in extras
    read: Message = {"role": role, "content": "" if says_nothing else encodable(_text(content, place), place)}
    for key, value in extras.items():
        read[key] = _calls(value, place) if key == "tool_calls" else _plain(value, f"{place}.{key}")
    return read


def _plain(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{place} must be text, but it is {value!r:.80}.", field=place)
    return encodable(value, place)


def _calls(given: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise Refusal(f"{place}.tool_calls must be a list, but it is {given!r:.80}.", field=f"{place}.tool_calls")
    return [_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(given)]


def _call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refusal(f'{place} must hold a "function" with a "name" and "arguments", but it is {call!r:.80}.', field=place)
    try:
        arguments = function.get("arguments") or "{}"
        read = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{place}: the arguments are not valid JSON: {error}.", field=place) from error
    if not isinstance(read, dict):
        raise Refusal(f"{place}: the arguments must be an object, but they are {read!r:.80}.", field=place)
    kept = {"type": "function", "function": {"name": function["name"], "arguments": read}}
    encodable(json.dumps(kept, ensure_ascii=False), place)
    return kept | ({"id": _plain(call["id"], place)} if call.get("id") is not None else {})


def _text(content: Any, place: str) -> str:
    """The content as one text; it may be given in parts."""
    if isinstance(content, str):
        return content
    parts = [_part_text(part) for part in content] if isinstance(content, list) else [None]
    if None in parts:
        raise Refusal(f"{place}.content must be text, or a list of text parts, but it is {content!r:.80}.", field=place)
    return "".join(text for text in parts if text is not None)


def _part_text(part: Any) -> str | None:
    is_text = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    return part["text"] if is_text else None
