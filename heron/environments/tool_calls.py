"""Finds the calls of tools in what a model said.

The hard idea: a model writes anything, so a call that cannot be read is a value with the reason in it, never an exception; and time is
bounded by the text's length, which is capped. Two notations: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Qwen and Hermes
templates teach it, and for small models without such a template a line `call: name(argument="value", number=3)`.

What stands inside the reasoning is no call, also where the reasoning is not closed, or was opened by the prompt. A call with half a
character in it (`\\ud800`) cannot be read: no tool could write it to a file.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from heron.data.texts import half_character
from heron.types import Tags

OPEN, CLOSE = "<tool_call>", "</tool_call>"
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
    """The calls outside of the reasoning, in order."""
    found: list[Call] = []
    for piece in _pieces(tags).finditer(text):
        match piece.lastgroup:
            case "json" | "unclosed":
                found.append(_json_call(piece["json"]))
            case "plain":
                found.append(_plain_call(piece["plain"]))
            case "end":  # of a reasoning that nothing here opened: everything before it was thought
                found.clear()
    return found


@functools.cache
def _pieces(tags: Tags) -> re.Pattern[str]:
    """What is taken whole, one after the other: a call, in which there may be tags; a reasoning, in which there may be calls; its end."""
    start, end = re.escape(tags.reasoning_start), re.escape(tags.reasoning_end)
    return re.compile(
        rf"{OPEN}(?:(?P<json>(?:(?!{OPEN}).)*?){CLOSE}|(?P<unclosed>))|(?P<reasoning>{start}).*?(?:{end}|\Z)"
        rf"|(?:^|(?<={end}))call:[ \t]*(?P<plain>(?:(?!{end})[^\n])*)|(?P<end>{end})",
        re.DOTALL | re.MULTILINE,
    )


def _json_call(body: str | None) -> Call:
    if body is None:
        return Call(wrong=f"A call was opened with {OPEN}, but not closed with {CLOSE}.")
    if len(body) > LONGEST:
        return Call(wrong=f"A call may have {LONGEST} characters, but this one has {len(body)}.")
    try:
        read = json.loads(body, parse_constant=_refused)
        arguments = read.get("arguments") if isinstance(read, dict) else None
        if isinstance(arguments, str):  # as OpenAI's models write them
            arguments = json.loads(arguments, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        return Call(wrong=f"The call is not valid JSON: {error}")
    if arguments is None:
        arguments = {}
    if not isinstance(read, dict) or not isinstance(read.get("name"), str) or not isinstance(arguments, dict):
        return Call(wrong='A call is {"name": the tool, "arguments": {its arguments by name}}.')
    return _whole(Call(name=read["name"], arguments=arguments))


def _plain_call(line: str) -> Call:
    if len(line) > LONGEST:
        return Call(wrong=f"A call may have {LONGEST} characters, but this one has {len(line)}.")
    try:
        node = ast.parse(line.strip(), mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args and all(each.arg for each in node.keywords):
            return _whole(Call(name=node.func.id, arguments={str(each.arg): ast.literal_eval(each.value) for each in node.keywords}))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    return Call(wrong='A call is written as call: name(argument="value", other=3), on one line, with plain values.')


def _whole(call: Call) -> Call:
    """The call, if no text in it has half a character."""
    half = half_character([call.name, call.arguments])
    return call if half is None else Call(wrong=f"The call holds {half}, which is half a character. Write the character itself.")


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")
