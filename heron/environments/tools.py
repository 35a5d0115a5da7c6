"""A tool: a typed Python function, its JSON schema, and a call of it that cannot break the trainer.

    def lookup(word: str, most: int = 3) -> list[str]:
        \"\"\"Meanings of a word.

        Args:
            word: in lower case.
            most: meanings to return.
        \"\"\"

The hard idea: whatever a model asks for comes back to the model as text. Arguments are checked against the types before the function is
called; an unknown name, a missing argument, a wrong type and whatever the function raises, sys.exit() too, are messages. But a sandbox that
fails is an outage, which the model must not learn from: it is raised.

Async functions are awaited, each call in an event loop of its own. What it leaves out: deadlines. A tool of yours runs in this process;
what is not trusted belongs into `python_tool`.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from heron.errors import ConfigError, SandboxError, did_you_mean
from heron.rewards.verifying import SANDBOX_MARK

LONGEST = 2000
"""Characters of a result that the model is shown; it is told how many more there were."""
SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call came to."""

    text: str
    """For the model."""
    failure: str | None = None
    """`call` if it was no valid call, `tool` if the tool raised; None if it returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that a model may call."""

    name: str
    """As the model calls it."""
    function: Callable[..., Any]
    """Runs in this process."""
    schema: Mapping[str, Any]
    """In the form that chat templates take."""
    types: Mapping[str, Any]
    """Annotations of its parameters."""
    runs_programs: bool = False
    """It runs in the sandbox what a model wrote (`heron.rewards.verifying.runs_programs`)."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Reads signature and docstring. Raises ConfigError for what is no function that returns, a parameter without a type that JSON
        has, or no docstring."""
        _check_function(function)
        name, hints = function.__name__, _hints(function)
        purpose, described = _documented(function)
        if not purpose:
            raise ConfigError(f"The tool {name} has no docstring, so a model could not know what it is for. Write one.")
        parameters = inspect.signature(function).parameters.values()
        properties = {each.name: _property(name, each, hints, described) for each in parameters}
        required = [each.name for each in parameters if each.default is each.empty]
        schema = {"name": name, "description": purpose, "parameters": {"type": "object", "properties": properties, "required": required}}
        return cls(
            name=name, function=function, schema={"type": "function", "function": schema}, types={each: hints[each] for each in properties},
            runs_programs=hasattr(function, SANDBOX_MARK),
        )

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """What the function returns as text, or what went wrong."""
        if (wrong := self._wrong(arguments)) is not None:
            return Outcome(text=_short(f"Error: {wrong}"), failure="call")
        try:
            text = _written(self.function(**arguments))
        except (SandboxError, KeyboardInterrupt):
            raise
        except BaseException as error:  # boundary: the model is told what a tool raised, and it is counted
            return Outcome(text=_short(f"Error: {self.name} raised {type(error).__name__}: {_told(error)}"), failure="tool")
        return Outcome(text=_short(text))

    def _wrong(self, arguments: Mapping[str, Any]) -> str | None:
        """The first thing that is wrong with the arguments."""
        required = self.schema["function"]["parameters"]["required"]
        for name in required:
            if name not in arguments:
                return f"{self.name} needs the argument {name!r}."
        for name, value in arguments.items():
            if name not in self.types:
                known = ", ".join(self.types) or "no arguments"
                return f"{self.name} has no argument {name!r}.{did_you_mean(name, self.types)} It takes {known}."
            if not fits(value, self.types[name]):
                return f"{self.name} wants {name} to be {json.dumps(schema_of(self.types[name]))}, but it is {_told(value, 80)}."
        return None


def schema_of(wanted: Any) -> dict[str, Any]:
    """The JSON schema of an annotation. Raises TypeError for one that JSON has no word for."""
    if wanted in SCALARS:
        return {"type": SCALARS[wanted]}
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal and all(choice is None or type(choice) in SCALARS for choice in inner):
        return {"enum": list(inner)}
    if origin is list and inner:
        return {"type": "array", "items": schema_of(inner[0])}
    if origin is dict and inner and inner[0] is str:
        return {"type": "object", "additionalProperties": schema_of(inner[1])}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [{"type": "null"} if part is types.NoneType else schema_of(part) for part in inner]}
    raise TypeError(wanted)


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value from JSON is of the annotation's type; `true` is no number, 3 is a float, and 1e999, which is infinite, is none."""
    if wanted is types.NoneType:
        return value is None
    if wanted is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if wanted in SCALARS:
        return type(value) is wanted
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) and fits(item, inner[1]) for key, item in value.items())
    return any(fits(value, part) for part in inner)


def _property(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any], described: Mapping[str, str]) -> dict[str, Any]:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ConfigError(f"The tool {tool} has the parameter {parameter}, but a model gives arguments by name. Name each of them.")
    try:
        found = schema_of(hints[parameter.name])
    except (KeyError, TypeError) as error:
        given = hints.get(parameter.name, "no type")
        raise ConfigError(f"The parameter {parameter.name} of the tool {tool} has {given}. Give it str, int, float, bool, a Literal, a "
                          "list or a dict with str keys of these, or None beside them.") from error
    text = described.get(parameter.name)
    return found if text is None else found | {"description": text}


def _check_function(function: Callable[..., Any]) -> None:
    """It has a name and parameters, and a call of it has one result."""
    if not (inspect.isroutine(function) and hasattr(function, "__name__")):
        raise ConfigError(f"{function!r} is no function, so it cannot be a tool. Define one with def that calls it: a model is told its "
                          "name, its docstring and its types.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"The tool {function.__name__} yields, but a call has one result. Return a value, such as a list.")
    try:
        inspect.signature(function)
    except ValueError as error:
        raise ConfigError(f"The parameters of the tool {function.__name__} cannot be read: {error}. Define a function with def that calls "
                          "it.") from error


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of its parameters."""
    try:
        return typing.get_type_hints(function)
    except Exception as error:  # boundary: annotations are code of the user's, and are run here
        raise ConfigError(f"The types of the tool {function.__name__} cannot be read: {type(error).__name__}: {error}. Name types that can "
                          "be found in its file, outside of `if TYPE_CHECKING`.") from error


def _written(result: Any) -> str:
    """A result as text: as it is, or as JSON, with what JSON has no word for as Python writes it."""
    if inspect.isawaitable(result):
        result = _awaited(result)
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("it returned a generator, which is no result, but would make some")
    return str.__str__(result) if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def _awaited(result: Awaitable[Any]) -> Any:
    """What it comes to; in another thread where this one, as a notebook's, runs a loop already."""

    import asyncio  # rooms that load no torch are quick to load: this one waits until a tool is async

    async def waited() -> Any:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(waited())
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, waited()).result()


def _told(value: object, most: int = LONGEST) -> str:
    """An exception's message, or another value as Python writes it; some raise when they are asked for it."""
    try:
        return _short(str(value) if isinstance(value, BaseException) else repr(value), most)
    except Exception as error:  # boundary: the same
        return f"(it cannot be written out: {type(error).__name__})"


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The docstring before its section `Args:`, and what that says of each parameter."""
    purpose, _, rest = (inspect.getdoc(function) or "").partition("\nArgs:")
    section = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    found = re.findall(r"^ {4}(\w+)(?: \([^)]*\))?: (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return " ".join(purpose.split()), {name: " ".join(text.split()) for name, text in found}


def _short(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"
