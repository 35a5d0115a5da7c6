"""From names to functions: built-in rewards and verifiers by name, others from a Python file.

The hard idea: a name is one of three things, and a wrong one must say which. `gsm8k.correctness` is built in,
`rewards.py:correct` is one function of a file, and `rewards.py` is every public function that the file defines (not
what it imports, nor what starts with an underscore). How a file is run: `heron.userfile`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, cast

from heron.errors import ConfigError, RewardError, did_you_mean
from heron.rewards import arithmetic, format, gsm8k, proximity
from heron.rewards.calling import name_of
from heron.rewards.verifying import Verdict, Verifier, verifiers
from heron.userfile import is_in_file, load_attribute, load_module

Function = Callable[..., Any]

BUILT_IN: Mapping[str, Function] = MappingProxyType(
    {
        "arithmetic.number_found": arithmetic.number_found,
        "arithmetic.number_right": arithmetic.number_right,
        "format.approximate": format.approximate,
        "format.follows_format": format.follows_format,
        "gsm8k.correctness": gsm8k.correctness,
        "gsm8k.integer": gsm8k.integer,
        "gsm8k.soft_format": gsm8k.soft_format,
        "gsm8k.strict_format": gsm8k.strict_format,
        "gsm8k.tag_count": gsm8k.tag_count,
        "proximity.closeness": proximity.closeness,
    }
)
"""The reward functions that can be named in a config."""


def resolve(
    functions: Sequence[str | Function | tuple[str | Function, float]], weights: Sequence[float] = ()
) -> list[tuple[Function, float]]:
    """Functions and weights for a `Rubric`, from names, functions, or pairs of one of them and a weight.

    `weights` has one value for each item, or is empty; a file that defines several functions gives its weight to each.
    """
    if weights and len(weights) != len(functions):
        raise ConfigError(f"There are {len(weights)} weights for {len(functions)} reward functions. Give one each.")
    found: list[tuple[Function, float]] = []
    for item, given in zip(functions, weights or [1.0] * len(functions), strict=True):
        function, weight = item if isinstance(item, tuple) else (item, given)
        found += [(each, weight) for each in (load_functions(function) if isinstance(function, str) else (function,))]
    return found


def load_functions(name: str) -> tuple[Function, ...]:
    """The reward functions that a name stands for: one, or for a bare `file.py` all of its public ones."""
    if is_in_file(name):
        return (_function(name, "a reward function"),)
    if name.endswith(".py"):
        return _public_functions(load_module(name, purpose="reward functions"), name)
    if name not in BUILT_IN:
        raise ConfigError(
            f"There is no reward function {name!r}.{did_you_mean(name, BUILT_IN)} Built in are {', '.join(BUILT_IN)}; "
            "your own is named by its file, as in rewards.py:correct."
        )
    return (BUILT_IN[name],)


def resolve_verifier(name: str) -> Verifier:
    """A verifier by its built-in name or `file.py:function`; one of your own may return a bool for right or wrong."""
    if is_in_file(name):
        return _verdicts(_function(name, "a verifier"))
    if name not in verifiers:
        raise ConfigError(
            f"There is no verifier {name!r}.{did_you_mean(name, verifiers)} Built in are {', '.join(verifiers)}; "
            "your own is named by its file, as in verifiers.py:same_city."
        )
    return verifiers[name]


def _verdicts(function: Function) -> Verifier:
    def verifier(answer: str, reference: str) -> Verdict:
        given = function(answer, reference)
        if isinstance(given, bool):
            return Verdict.RIGHT if given else Verdict.WRONG
        if not isinstance(given, Verdict):
            raise RewardError(f"The verifier {name_of(function)} returned {given!r}. Return a bool or a Verdict.")
        return given

    return verifier


def _function(name: str, purpose: str) -> Function:
    """What `file.py:name` stands for, if it can be called."""
    function = load_attribute(name, purpose=purpose)
    if not callable(function):
        raise ConfigError(f"{name} is {function!r}, which cannot be called. Name {purpose}.")
    return cast(Function, function)


def _public_functions(module: ModuleType, path: str) -> tuple[Function, ...]:
    functions = tuple(
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )
    if not functions:
        raise ConfigError(f"{path} defines no public function. Define one, such as def correct(completion, answer).")
    return functions
