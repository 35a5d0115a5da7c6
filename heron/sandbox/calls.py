"""Calls of a program's function, beside the program: decodes arguments, writes results or what was raised.

The hard idea: whatever is done here can be undone by the program, which has run before in the same process. Nothing here protects
anything; it only writes down what an honest program computes, in the form that `values` reads strictly on the other side. Each result
leaves before the next call begins, so a call that hangs or ends the process takes no earlier one with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from heron.sandbox.values import decode, encode


def report(descriptor: int, main: ModuleType, calls: Mapping[str, Any]) -> None:
    """One line for each list of arguments."""
    with os.fdopen(descriptor, "wb") as file:
        for arguments in calls["arguments"]:
            file.write(json.dumps(_call(main, calls["function"], arguments), allow_nan=False).encode() + b"\n")
            file.flush()


def _call(main: ModuleType, function: str, arguments: Sequence[Any]) -> dict[str, Any]:
    """One result, or the exception that came instead."""
    try:
        return {"result": encode(getattr(main, function)(*(decode(argument) for argument in arguments)))}
    except BaseException as error:  # boundary: one call of the program's function, which may also mean to exit
        return {"raised": f"{type(error).__name__}: {_message(error)}"[:500]}


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # boundary: an exception class of the program
        return "(without words)"
