"""`call`: what a function of a program returns for one list of arguments, where nobody knows what is right.

    called = call("def f(x):\\n    print('noise')\\n    return x + 1", "f", [41])      # called.value == 42

The hard idea: the value comes through a descriptor of its own, so what is printed, and an exit with 0, is no answer. It stays the program's
word: text that a program runs in its own process (`exec`) can say anything in its name. Where the right value is known, compare it out here
(`grading.grade_calls`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heron.errors import DataError
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import backend_name
from heron.sandbox.limits import Limits, Result, Status
from heron.sandbox.running import run_in
from heron.sandbox.values import Unreadable, decode, encode, read_json, same_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What became of one call."""

    value: Any
    """What the function returned; None, too, where `problem` says why it returned nothing."""
    problem: str
    """In words; empty for a value."""
    result: Result
    """Of the program's run."""


def call(code: str, function: str, arguments: Sequence[Any], limits: Limits | None = None, *, backend: str = "auto") -> Called:
    """Runs a program, then its function with these plain values. Raises SandboxError as `run` does."""
    held_by = BACKENDS[backend_name(backend)]
    result = run_in(held_by, code, "", limits or Limits(), {"function": function, "arguments": [[_sent(each) for each in arguments]]})
    if result.status is not Status.FINISHED:
        return Called(value=None, problem=f"{result.status}: {result.reason}", result=result)
    try:
        return _returned(result)
    except (Unreadable, RecursionError) as error:
        return Called(value=None, problem=f"it returned nothing that can be read ({error})", result=result)


def _sent(argument: Any) -> Any:
    form = encode(argument)
    if not same_value(decode(form), argument):
        raise DataError(f"The argument {argument!r:.200} cannot be sent to a program. Use plain values: numbers, texts, lists, dicts.")
    return form


def _returned(result: Result) -> Called:
    """What the report says."""
    if not result.report:
        raise Unreadable("it ended before it returned")
    entries = read_json(result.report)
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict) or len(entries[0]) != 1:
        raise Unreadable("there is not one entry for one call")
    ((kind, content),) = entries[0].items()
    if kind == "raised" and isinstance(content, str):
        return Called(value=None, problem=f"it raised {content}", result=result)
    if kind != "result":
        raise Unreadable("an entry is one result, or what was raised")
    return Called(value=decode(content), problem="", result=result)
