"""A rubric: several reward functions, each with a weight, whose weighted sum is what is trained on.

The hard idea: None is not 0. A function returns None where it does not apply; the total is then the sum of the
others, and None if no function that counts applied. Nothing here catches an error and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heron.errors import ConfigError, DataError, RewardError, did_you_mean
from heron.rewards.calling import RewardFunction
from heron.rewards.scores import checked_scores, shortened
from heron.rewards.verifying import VERIFIER_MARK, Verifier
from heron.types import Prompt, Rollout, Tags

Function = Callable[..., Any]


class Rubric:
    """Scores rollouts. Each item is a function or a `(function, weight)`; weight 0 logs without training on it.

    >>> rubric = Rubric([correct, (follows_format, 0.2)], tags=Tags())
    >>> rubric.check(prompts)              # before training
    >>> scored = rubric.score(rollouts)    # with .rewards by name and .reward
    """

    def __init__(self, functions: Sequence[Function | tuple[Function, float]], *, tags: Tags) -> None:
        pairs = [item if isinstance(item, tuple) else (item, 1.0) for item in functions]
        self.functions = tuple(RewardFunction.of(function) for function, _ in pairs)
        self.names = tuple(function.name for function in self.functions)
        self.weights = tuple(_weight(weight, name) for name, (_, weight) in zip(self.names, pairs, strict=True))
        self.tags = tags
        _check_names(self.names)
        if not any(self.weights):
            raise ConfigError(
                f"Nothing is rewarded: the reward functions are [{', '.join(self.names)}], "
                f"with the weights {list(self.weights)}. Give at least one function a weight other than 0."
            )

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raises DataError if a row lacks a column that a function needs, or has a reference that it cannot read."""
        for prompt in prompts:
            for function in self.functions:
                _check_columns(function, prompt)
                verifier = getattr(function.function, VERIFIER_MARK, None)
                if verifier is not None:
                    check_reference(verifier, prompt)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Copies of the rollouts, with what each function gave them (`rewards`) and the weighted total (`reward`)."""
        if not rollouts:
            return []
        columns = {f.name: checked_scores(f.call(rollouts, self.tags), f.name, rollouts) for f in self.functions}
        return [
            self._scored(rollout, {name: column[row] for name, column in columns.items()})
            for row, rollout in enumerate(rollouts)
        ]

    def _scored(self, rollout: Rollout, rewards: Mapping[str, float | None]) -> Rollout:
        pairs = zip(self.weights, rewards.values(), strict=True)
        weighted = [weight * score for weight, score in pairs if weight and score is not None]
        return replace(rollout, rewards=rewards, reward=sum(weighted) if weighted else None)


def check_reference(verifier: Verifier, prompt: Prompt) -> None:
    """Raises DataError if the row has no reference, or one that the verifier cannot read."""
    if prompt.answer is None:
        raise DataError(
            f"Row {prompt.id} has no answer to verify against; its columns are {', '.join(prompt.columns) or 'none'}. "
            "Give every row one, or name its column in data.answer_column."
        )
    try:
        verifier(prompt.answer, prompt.answer)
    except RewardError as error:
        answer = shortened(prompt.answer)
        raise DataError(f"The answer {answer} of row {prompt.id} cannot be verified against. {error}") from error


def _check_columns(function: RewardFunction, prompt: Prompt) -> None:
    for name in function.missing(prompt.columns):
        nearest = did_you_mean(name, (*prompt.columns, *function.built_in_names))
        raise DataError(
            f"The reward function {function.name} asks for {name!r}, but row {prompt.id} has no such column; "
            f"its columns are {', '.join(prompt.columns) or 'none'}.{nearest} "
            f"Besides columns it may ask for {', '.join(function.built_in_names)}."
        )


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Two reward functions are named {name!r}, so their scores could not be told apart. Rename one of them."
            )


def _weight(weight: Any, name: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ConfigError(f"The weight of the reward function {name} must be a finite number, but it is {weight!r}.")
    return float(weight)
