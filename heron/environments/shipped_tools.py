"""The tools that come with Heron, and those of a file of yours.

The hard idea: `python` runs what a model wrote, so it runs in the sandbox, gets nothing but the code, and keeps nothing between two calls.
No run begins without one; a sandbox that fails later is an error, not a message to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from heron import sandbox
from heron.environments.tools import Tool
from heron.errors import ConfigError, did_you_mean
from heron.rewards.expression import value_of
from heron.rewards.verifying import runs_programs
from heron.userfile import is_in_file, load_attribute


def calculate(expression: str) -> str:
    """Exact value of an expression of whole numbers with + - * / and brackets.

    Args:
        expression: such as (3 + 4) * 12.
    """
    found = value_of(expression)
    if found is None:
        raise ValueError("not an expression of whole numbers with + - * / and brackets, or a division by 0")
    return str(found[0])


SHIPPED: Mapping[str, Callable[..., Any]] = MappingProxyType({"calculate": calculate})
"""Tools that can be named in `environment.tools`."""


def find_tool(name: str) -> Tool:
    """A shipped tool, or `file.py:function`."""
    if is_in_file(name):
        function = load_attribute(name, purpose="a tool")
        if not callable(function):
            raise ConfigError(f"{name} is {function!r}, which cannot be called. Name a function.")
        return Tool.of(function)
    if name not in SHIPPED:
        raise ConfigError(f"There is no tool {name!r}.{did_you_mean(name, SHIPPED)} Built in are {', '.join(SHIPPED)}; your own is named "
                          "by its file, as in tools.py:search.")
    return Tool.of(SHIPPED[name])


def python_tool(*, seconds: float) -> Tool:
    """Runs Python in the sandbox, for at most so many seconds."""

    @runs_programs
    def python(code: str) -> str:
        """Run a Python program and see what it prints. Nothing is kept between two programs.

        Args:
            code: the whole program, which prints what it finds.
        """
        result = sandbox.run(code, "", sandbox.Limits(seconds=seconds))
        if result.status is sandbox.Status.FINISHED:
            return result.stdout
        last = result.stderr.strip().splitlines()[-1:] or [result.reason]
        return f"{result.stdout}Error: {last[0]}" if result.status is sandbox.Status.FAILED else f"{result.stdout}Error: {result.reason}"

    return Tool.of(python)
