"""`call`: what a function of a program returns for one list of arguments, where nobody knows what is right.

    called = call("def f(x):\\n    print('noise')\\n    return x + 1", "f", [41])      # called.value == 42

The hard idea: the value comes through a descriptor of its own, so what is printed, and an exit with 0, is no answer. It stays the program's
word: text that a program runs in its own process (`exec`) can say anything in its name. Where the right value is known, compare it out here
(`grading.grade_calls`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heron.errors import DataError
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import backend_name
from heron.sandbox.limits import Limits, Result, Status
from heron.sandbox.running import run_in
from heron.sandbox.values import Unreadable, encode, is_comparable, read_answer, received


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
    """Imports a program, then calls its function with these plain values. Raises SandboxError as `run` does.

    What it returns is a plain value, too; sets and dicts in it have at most 1000 members.
    """
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
    if not is_comparable(form):
        raise DataError(f"An argument holds {json.dumps(form):.200}, which cannot be sent to a program. Use plain values: numbers, texts, "
                        "lists, dicts.")
    return form


def _returned(result: Result) -> Called:
    """What the report says."""
    if not result.report:
        raise Unreadable("it ended before it returned")
    line, *rest = result.report.split(b"\n")
    if rest != [b""]:
        raise Unreadable("there is not one entry for one call")
    kind, content = read_answer(line)
    if kind == "raised":
        return Called(value=None, problem=f"it raised {content}", result=result)
    return Called(value=received(content), problem="", result=result)
