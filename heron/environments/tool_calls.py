"""Finds the calls of tools in what a model said.

The hard idea: a model writes anything, so a call that cannot be read is a value with the reason in it, never an exception; and time is
bounded by the text's length, which is capped. Two notations: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Qwen and Hermes
templates teach it, and for small models without such a template a line `call: name(argument="value", number=3)`.

What stands inside the reasoning is no call.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from heron.types import Tags

OPEN, CLOSE = "<tool_call>", "</tool_call>"
PLAIN = re.compile(r"^call:[ \t]*(.*)$", re.MULTILINE)
LONGEST = 20_000
"""Characters of one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a model asked for."""

    name: str = ""
    """Of the tool."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """By name."""
    wrong: str | None = None
    """Why it could not be read; then there is no name."""


def find_calls(text: str, tags: Tags) -> list[Call]:
    """The calls behind the reasoning, in order."""
    said = text.rpartition(tags.reasoning_end)[2]
    return [_json_call(body) for body in _bodies(said)] + [_plain_call(match[1]) for match in PLAIN.finditer(said)]


def _bodies(said: str) -> list[str | None]:
    """What stands between the marks; None for a call that is not closed."""
    found: list[str | None] = []
    for piece in said.split(OPEN)[1:]:
        body, closed, _ = piece.partition(CLOSE)
        found.append(body if closed else None)
    return found


def _json_call(body: str | None) -> Call:
    if body is None:
        return Call(wrong=f"A call was opened with {OPEN}, but not closed with {CLOSE}.")
    if len(body) > LONGEST:
        return Call(wrong=f"A call may have {LONGEST} characters, but this one has {len(body)}.")
    try:
        read = json.loads(body, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        return Call(wrong=f"The call is not valid JSON: {error}")
    if not isinstance(read, dict) or not isinstance(read.get("name"), str) or not isinstance(read.get("arguments", {}), dict):
        return Call(wrong='A call is {"name": the tool, "arguments": {its arguments by name}}.')
    return Call(name=read["name"], arguments=read.get("arguments", {}))


def _plain_call(line: str) -> Call:
    if len(line) > LONGEST:
        return Call(wrong=f"A call may have {LONGEST} characters, but this one has {len(line)}.")
    try:
        node = ast.parse(line.strip(), mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args and all(each.arg for each in node.keywords):
            return Call(name=node.func.id, arguments={str(each.arg): ast.literal_eval(each.value) for each in node.keywords})
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    return Call(wrong='A call is written as call: name(argument="value", other=3), on one line, with plain values.')


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")
