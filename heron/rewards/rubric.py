"""A rubric: several reward functions, each with a weight, whose weighted sum is what is trained on.

The hard idea: None is not 0. A function returns None where it does not apply; the total is then the sum of the
others, and None if no function that counts applied. Nor is an error 0: it stops the run, or, if so asked, takes the
rollout out of its group, seen and counted.

Each function may be for one task of a mixed dataset (`for_task`). Left out: making functions with different ranges
equal within a group, which needs the group: `objective.advantage_estimator = "normalize_then_sum"` does it.
"""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heron.errors import ConfigError, DataError, RewardError, did_you_mean
from heron.rewards.calling import PENALTY_MARK, TASK_MARK, Outcome, RewardFunction, name_of
from heron.rewards.scores import LARGEST, shortened
from heron.rewards.verifying import CHECK_MARK, SANDBOX_MARK, VERIFIER_MARK, Verifier
from heron.rewards.watching import Log, Watch
from heron.rewards.workers import counting
from heron.sandbox import backend_name
from heron.types import Prompt, Rollout, Tags

Function = Callable[..., Any]

ON_ERROR = ("stop", "exclude")
"""What may become of a rollout that a function fails at."""


class Rubric:
    """Scores rollouts. Each item is a function or a `(function, weight)`; weight 0 logs without training on it.

    >>> rubric = Rubric([correct, (follows_format, 0.2)], tags=Tags())
    >>> rubric.check(prompts)              # before training
    >>> scored = rubric.score(rollouts)    # with .rewards by name and .reward

    `on_error` says what becomes of a rollout that a function raised at, or gave no score: `stop` raises RewardError;
    `exclude` leaves it without any reward, with the reason in its `.error`, and warns once for each function.
    """

    def __init__(
        self, functions: Sequence[Function | tuple[Function, float]], *, tags: Tags, on_error: str = "stop"
    ) -> None:
        pairs = [item if isinstance(item, tuple) else (item, 1.0) for item in functions]
        self.functions = tuple(RewardFunction.of(function) for function, _ in pairs)
        self.names = tuple(function.name for function in self.functions)
        self.weights = tuple(_weight(weight, name) for name, (_, weight) in zip(self.names, pairs, strict=True))
        self.tags = tags
        if on_error not in ON_ERROR:
            raise ConfigError(f"on_error must be one of {', '.join(ON_ERROR)}, but it is {on_error!r}.")
        self.stops = on_error == "stop"
        self.sandbox = backend_name() if any(hasattr(function.function, SANDBOX_MARK) for function in self.functions) else None
        """In which programs are run, if a function runs any: without one there is a SandboxError."""
        self.penalties = tuple(
            function.name for function, weight in zip(self.functions, self.weights, strict=True)
            if weight >= 0 and hasattr(function.function, PENALTY_MARK)
        )
        """Names of the functions that are known to take away only."""
        self._told: set[str] = set()
        _check_names(self.names)
        if not any(self.weights):
            raise ConfigError(
                f"Nothing is rewarded: the reward functions are [{', '.join(self.names)}], "
                f"with the weights {list(self.weights)}. Give at least one function a weight other than 0."
            )

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raises DataError if a row lacks a column that a function needs, has a reference that it cannot read, or is scored by none."""
        for prompt in prompts:
            functions = [function for function in self.functions if function.scores(prompt)]
            if not any(weight for function, weight in zip(self.functions, self.weights, strict=True) if function in functions):
                raise _no_function(prompt, self.functions)
            for function in functions:
                _check_columns(function, prompt)
                verifier = getattr(function.function, VERIFIER_MARK, None)
                if verifier is not None:
                    check_reference(verifier, prompt)
                _check_row(function, prompt)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Copies of the rollouts, with what each function gave them (`rewards`) and the weighted total (`reward`)."""
        if not rollouts:
            return []
        judged = [self._judged(function, rollouts) for function in self.functions]
        return [self._scored(rollout, row, judged) for row, rollout in enumerate(rollouts)]

    def _judged(self, function: RewardFunction, rollouts: Sequence[Rollout]) -> tuple[list[Outcome], list[Mapping[str, Any]], Log]:
        """Outcomes and extra columns by row, None and nothing where the function is not for that row, and what it recorded."""
        rows = [row for row, rollout in enumerate(rollouts) if function.scores(rollout.prompt)]
        log = Log(function.name, len(rows))
        outcomes: list[Outcome] = [None] * len(rollouts)
        extras: list[Mapping[str, Any]] = [{}] * len(rollouts)
        if rows:
            with Watch(function.name) as watch, counting() as lost:
                found = function.outcomes([rollouts[row] for row in rows], self.tags, log, watch, stop=self.stops)
            if lost.count:
                log.metric(f"{function.name}_given_up", lost.count)
            for number, (row, outcome) in enumerate(zip(rows, found, strict=True)):
                outcomes[row], extras[row] = outcome, log.extras_of(number)
        self._tell(function.name, outcomes)
        return outcomes, extras, log

    def _scored(
        self, rollout: Rollout, row: int, judged: Sequence[tuple[list[Outcome], list[Mapping[str, Any]], Log]]
    ) -> Rollout:
        outcomes = dict(zip(self.names, (of_function[row] for of_function, _, _ in judged), strict=True))
        extras = {name: value for _, of_function, _ in judged for name, value in of_function[row].items()}
        logged = {name: value for _, _, log in judged for name, value in log.metrics.items()}
        scores = {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, RewardError)}
        errors = [outcome for outcome in outcomes.values() if isinstance(outcome, RewardError)]
        total = self._total(scores, rollout) if not errors else errors[0]
        if isinstance(total, RewardError):
            return replace(rollout, rewards=dict.fromkeys(self.names), reward=None, error=str(total), extras=extras, logged=logged)
        return replace(rollout, rewards=scores, reward=total, extras=extras, logged=logged)

    def _total(self, scores: Mapping[str, float | None], rollout: Rollout) -> Outcome:
        """The weighted sum; None if no function that counts applied; an error if it is not finite, or beyond what can be trained on."""
        pairs = zip(self.weights, scores.values(), strict=True)
        weighted = [weight * score for weight, score in pairs if weight and score is not None]
        if abs(total := sum(weighted)) <= LARGEST:
            return total if weighted else None
        error = RewardError(f"The weighted sum of the scores {dict(scores)} of row {rollout.prompt.id} is {total:g}, and "
                            f"only up to ±{LARGEST:g} can be trained on. Lower the scores, or the weights {list(self.weights)}.")
        if self.stops:
            raise error
        self._tell("the total", [error])
        return error

    def _tell(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Of the first error of each function, with its traceback."""
        error = next((outcome for outcome in outcomes if isinstance(outcome, RewardError)), None)
        if error is not None and name not in self._told:
            self._told.add(name)
            trace = "".join(traceback.format_exception(error.__cause__ or error))
            warnings.warn(f"{error} The rollout is excluded, and so will be the next ones, without a word.\n{trace}", stacklevel=4)


def for_task(function: Function, task: str) -> Function:
    """`function` for the rows alone whose column `task` is `task`; it does not apply to others. Logged as `name@task`."""

    @functools.wraps(function)  # with its signature and its marks
    def scored(**arguments: Any) -> Any:
        return function(**arguments)

    scored.__name__ = name_of(function)
    setattr(scored, TASK_MARK, task)
    return scored


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


def _no_function(prompt: Prompt, functions: Sequence[RewardFunction]) -> DataError:
    tasks = sorted({function.task for function in functions if function.task is not None})
    return DataError(
        f"Row {prompt.id} is scored by no reward function with a weight: its task is {prompt.columns.get('task')!r}, and "
        f"there are functions for {', '.join(tasks)}. Name one for its task, such as gsm8k.correctness@TASK, or leave the row out."
    )


def _check_row(function: RewardFunction, prompt: Prompt) -> None:
    check = getattr(function.function, CHECK_MARK, None)
    try:
        if check is not None:
            check(prompt.columns)
    except (DataError, RewardError) as error:
        raise DataError(f"Row {prompt.id} cannot be scored by {function.name}. {error}") from error


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
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) <= sys.float_info.max:
        raise ConfigError(f"The weight of the reward function {name} must be a finite number, but it is {shortened(weight)}.")
    return float(weight)
