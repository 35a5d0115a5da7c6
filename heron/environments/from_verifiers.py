"""Environments written for the `verifiers` package: their rows, and their rubric's functions as reward functions.

    data.dataset = "verifiers:my-env"
    environment.name = "verifiers:my-env"
    rewards.functions = ["environment.rubric"]        # or its functions one by one: environment.correct_answer

The hard idea: only what the package declares is taken from it, its dataset and its functions with their weights, and not its runner. Its
runner makes 0 of a function that raises; here such a function is an error that names the row.

What it leaves out, and refuses by name: conversations of several turns, tools, and functions that compare siblings.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from heron.data.verifiers_package import opened
from heron.environments.protocol import RewardFunctions, SingleTurn
from heron.errors import ConfigError
from heron.types import Message

OF_SIBLINGS = frozenset({"states", "prompts", "completions", "answers", "tasks", "infos"})
"""A function of the package that names one of these scores several answers at once."""


class FromVerifiers(SingleTurn):
    """One question, one answer, scored by the package's rubric."""

    uses_verifier = True

    def __init__(self, name: str) -> None:
        scored = _scored(name, opened(name).rubric)
        self.rewards: RewardFunctions = MappingProxyType({
            "rubric": functools.partial(_total, [(function, weight) for function, weight in scored.values()]),
            **{label: function for label, (function, _) in scored.items()},
        })


def _scored(name: str, rubric: Any) -> dict[str, tuple[Callable[..., Any], float]]:
    """Functions and weights by label, of a rubric or of a group of rubrics. A label that is taken gets a number."""
    found: dict[str, tuple[Callable[..., Any], float]] = {}
    for part in getattr(rubric, "rubrics", [rubric]):
        for function, weight in zip(part.funcs, part.weights, strict=True):
            label = _free(getattr(function, "__name__", type(function).__name__), found)
            _refuse_siblings(function, f"{name}, function {label}")
            found[label] = (functools.partial(_call, function, dict(part.class_objects)), float(weight))
    if not found:
        raise ConfigError(f"The rubric of {name} has no function, so nothing could be learnt from it.")
    return found


def _free(label: str, taken: Mapping[str, Any]) -> str:
    numbered = (label, *(f"{label}_{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in numbered if each not in taken and each != "rubric")


def _refuse_siblings(function: Callable[..., Any], what: str) -> None:
    if named := OF_SIBLINGS & set(inspect.signature(function).parameters):
        raise ConfigError(f"{what}: it asks for {', '.join(sorted(named))}, so it compares several answers, which is not run here. Write "
                          "it as a reward function in batch form: def f(prompts, completions, **columns).")


def _call(function: Callable[..., Any], objects: Mapping[str, Any], messages: Sequence[Message], columns: Mapping[str, Any]) -> Any:
    """What the function returns, or what is to be awaited for it, with the arguments that the package would give it."""
    *asked, said = messages
    info = columns.get("info") or {}
    known = {
        "answer": "", "task": "default", **columns, "prompt": asked, "completion": [said],
        "info": json.loads(info) if isinstance(info, str) else info,
    }
    state = {**known, "input": dict(columns), "trajectory": [{"prompt": asked, "completion": [said]}]}
    arguments = {**known, **objects, "state": state}
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return function(**{key: value for key, value in arguments.items() if takes_all or key in parameters})


async def _total(scored: Sequence[tuple[Callable[..., Any], float]], messages: Sequence[Message], columns: Mapping[str, Any]) -> float:
    """The rubric's own sum."""
    total = 0.0
    for function, weight in scored:
        score = function(messages=messages, columns=columns)
        total += weight * float(await score if inspect.isawaitable(score) else score)
    return total
