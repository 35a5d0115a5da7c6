"""From names to functions: built-in rewards and verifiers by name, others from a Python file.

The hard idea: a name is one of five things, and a wrong one must say which. `gsm8k.correctness` is built in,
`rewards.py:correct` is one function of a file, `rewards.py` is every public function that the file defines (not
what it imports, nor what starts with an underscore), `grader.json` is a grader as data, and `criteria.toml` is what a
judge is asked. How a file is run: `heron.userfile`.
A built-in name may give settings, `shaping.overlong(most=512)`, which are literals and never evaluated;
any name may end in `@task`, and then scores only rows whose column `task` says so.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, cast

from heron.errors import ConfigError, RewardError, did_you_mean
from heron.rewards import arithmetic, code, email, format, gsm8k, json_schema, language, proximity, shaping, similarity, tasks
from heron.rewards.calling import name_of
from heron.rewards.graders import load_grader
from heron.rewards.isolating import isolated
from heron.rewards.judge.criteria import load_sheet
from heron.rewards.judge.scoring import JudgeReward, claim
from heron.rewards.judge.seat import Seat
from heron.rewards.rubric import for_task
from heron.rewards.verifying import Verdict, Verifier, verifiers
from heron.userfile import is_in_file, load_attribute, load_module

Function = Callable[..., Any]

BUILT_IN: Mapping[str, Function] = MappingProxyType(
    {
        f"{module.__name__.rpartition('.')[2]}.{function.__name__}": function
        for module, functions in (
            (arithmetic, (arithmetic.number_found, arithmetic.number_right)),
            (code, (code.stdin_stdout, code.unit_tests)),
            (email, (email.exact_match, email.has_signature, email.names_recipient, email.required_keywords, email.too_long)),
            (format, (format.approximate, format.follows_format, format.no_stuffing)),
            (gsm8k, (gsm8k.correctness, gsm8k.integer, gsm8k.soft_format, gsm8k.strict_format, gsm8k.tag_count)),
            (json_schema, (json_schema.follows_schema,)),
            (proximity, (proximity.closeness, proximity.distance)),
            (similarity, (similarity.similarity,)),
            (tasks, (tasks.right,)),
        )
        for function in functions
    }
)
"""The reward functions that can be named in a config."""

WITH_SETTINGS: Mapping[str, Callable[..., Function]] = MappingProxyType(
    {
        "language.speaks": language.speaks,
        "shaping.overlong": shaping.overlong,
        "shaping.repetition": shaping.repetition,
    }
)
"""Functions that make a reward function from settings; all have defaults."""

MAKERS: Mapping[str, Callable[..., Function]] = MappingProxyType({**WITH_SETTINGS, "judge.claim": claim})
"""These, and what asks a judge, which must be told what."""


def resolve(
    functions: Sequence[str | Function | tuple[str | Function, float]], weights: Sequence[float] = (), *, timeout: float = 0.0
) -> list[tuple[Function, float]]:
    """Functions and weights for a `Rubric`, from names, functions, or pairs of one of them and a weight.

    `weights` has one value for each item, or is empty; a file that defines several functions gives its weight to each.
    With a `timeout`, functions from files run in a process of their own, for at most so many seconds a call.
    """
    if weights and len(weights) != len(functions):
        raise ConfigError(f"There are {len(weights)} weights for {len(functions)} reward functions. Give one each.")
    found: list[tuple[Function, float]] = []
    for item, given in zip(functions, weights or [1.0] * len(functions), strict=True):
        function, weight = item if isinstance(item, tuple) else (item, given)
        found += [(each, weight) for each in _functions(function, timeout)]
    return found


def load_functions(name: str, *, timeout: float = 0.0) -> tuple[Function, ...]:
    """The reward functions that a name stands for: one, or for a bare `file.py` all of its public ones."""
    name, _, task = name.rpartition("@") if re.search(r"@[\w:-]+$", name) else (name, "", "")
    found = _load(name, timeout)
    return tuple(for_task(function, task) for function in found) if task else found


def _functions(item: str | Function, timeout: float) -> tuple[Function, ...]:
    if isinstance(item, str):
        return load_functions(item, timeout=timeout)
    if timeout:
        raise ConfigError(f"rewards.timeout runs reward functions in another process, which cannot be given {name_of(item)}, a function "
                          "from Python. Put it into a file and name it, as in rewards.py:correct, or leave rewards.timeout out.")
    return (item,)


def _load(name: str, timeout: float) -> tuple[Function, ...]:
    if name.endswith(".json"):
        return (load_grader(name),)
    if name.endswith(".toml"):
        return (JudgeReward(load_sheet(name), Seat()),)
    if is_in_file(name) or name.endswith(".py"):
        return tuple(_guarded(function, name, timeout) for function in _from_file(name))
    plain, settings = name_and_settings(name)
    if plain in MAKERS:
        return (_made(plain, settings),)
    if plain not in BUILT_IN:
        known = (*BUILT_IN, *MAKERS)
        raise ConfigError(
            f"There is no reward function {plain!r}.{did_you_mean(plain, known)} Built in are {', '.join(sorted(known))}; "
            "your own is named by its file, as in rewards.py:correct."
        )
    if settings:
        raise ConfigError(f"{plain} has no settings, but {name!r} gives some. With settings are {', '.join(MAKERS)}.")
    return (BUILT_IN[plain],)


def _from_file(name: str) -> tuple[Function, ...]:
    if is_in_file(name):
        return (_function(name, "a reward function"),)
    return _public_functions(load_module(name, purpose="reward functions"), name)


def _guarded(function: Function, name: str, timeout: float) -> Function:
    """A function of the file that `name` names, in a process of its own if it is given a deadline."""
    if not timeout:
        return function
    file = name if is_in_file(name) else f"{name}:{function.__name__}"
    return isolated(function, file, seconds=timeout)


def name_and_settings(name: str) -> tuple[str, dict[str, Any]]:
    """`shaping.overlong(most=512)` as its name and its settings; nothing is evaluated."""
    plain, bracket, _ = name.partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(name, mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return plain.strip(), {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{name!r} is not a name with settings. Write them by name with plain values, as in "
                          "shaping.overlong(most=512).") from error


def _made(name: str, settings: Mapping[str, Any]) -> Function:
    make = MAKERS[name]
    parameters = inspect.signature(make).parameters
    known = list(parameters)
    for setting in settings:
        if setting not in known:
            raise ConfigError(f"{name} has no setting {setting!r}.{did_you_mean(setting, known)} It has {', '.join(known)}.")
    for setting, parameter in parameters.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise ConfigError(f'{name} needs {setting}, as in {name}({setting}="..."). It has {", ".join(known)}.')
    return make(**settings)


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
        try:
            given = function(answer, reference)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: what a user's verifier raises becomes an error that names it
            raise RewardError(f"The verifier {name_of(function)} raised {type(error).__name__}: {error}. It was given the answer "
                              f"{answer[:80]!r} and the reference {reference[:80]!r}.") from error
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
