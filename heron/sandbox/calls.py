"""Calls of a program's function, beside the program: decodes arguments, writes results or what was raised.

The hard idea: whatever is done here can be undone by the program, which has run before in the same process. Nothing here protects
anything; it only writes down what an honest program computes, in the form that `values` reads strictly on the other side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from heron.sandbox.values import decode, encode


def report(descriptor: int, main: ModuleType, calls: Mapping[str, Any]) -> None:
    """One entry for each list of arguments."""
    results = [_call(main, calls["function"], arguments) for arguments in calls["arguments"]]
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(results, allow_nan=False).encode())


def _call(main: ModuleType, function: str, arguments: Sequence[Any]) -> dict[str, Any]:
    """One result, or the exception that came instead."""
    try:
        return {"result": encode(getattr(main, function)(*(decode(argument) for argument in arguments)))}
    except Exception as error:  # boundary: one call of the program's function
        return {"raised": f"{type(error).__name__}: {error}"[:500]}
