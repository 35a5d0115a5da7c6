"""Calls any reward function with the arguments that it names.

The hard idea: two conventions, told apart by one parameter name. A function that names `completions` is called once
for a whole batch, as TRL calls it: lists of prompts, completions, completion ids and dataset columns, by keyword. Any
other function is called once for each rollout, with whatever it names: parts of the rollout, or columns of its row.
Either may be async.

    def correct(completion, answer): ...                       # row form
    def correct(prompts, completions, answer, **kwargs): ...   # batch form

What a function asks for and nobody has is found by `missing`, before training. What it raises becomes a `RewardError`
that names the row and the completion; what it returns is checked in `heron.rewards.scores`. Either is raised at once, or
stands in place of the score: the rubric says which.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from heron.errors import ConfigError, RewardError, RewardStop
from heron.rewards.scores import checked_score, list_of_scores, shortened
from heron.rewards.watching import Log, TrainerState, Watch, no_copies
from heron.types import Message, Prompt, Rollout, Tags

ROW_NAMES = (
    "completion", "prompt", "messages", "tags", "prefilled", "completion_ids", "truncated", "columns",
)  # fmt: skip
"""What a row function may name besides columns; these win over columns of the same name."""
BATCH_NAMES = ("prompts", "completions", "completion_ids", "tags", "prefilled", "truncated", "trainer_state", "log_extra", "log_metric")
"""What a batch function may name besides columns. All but `tags`, TRL's `trainer_state` and the two recorders are lists, one item per
rollout."""

Function = TypeVar("Function", bound=Callable[..., Any])

Outcome = float | None | RewardError
"""What a function made of a rollout: a score, None where it does not apply, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFunction:
    """A user's function, and how it wants to be called."""

    name: str
    """Under which its scores are logged."""
    function: Callable[..., Any]
    """What the user wrote."""
    in_batches: bool
    """True if one call scores a whole batch."""
    named: tuple[str, ...]
    """The parameters that it names."""
    required: tuple[str, ...]
    """Those among them that have no default."""
    takes_all: bool
    """True if it has a `**parameter`, and so gets everything."""
    task: str | None = None
    """It scores only rows whose column `task` says this; None: all rows."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> RewardFunction:
        """Reads the signature. Raises ConfigError if the function cannot be called by keyword."""
        name = name_of(function)
        task = task_name(getattr(function, TASK_MARK, None))
        parameters = _parameters(function, name)
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        return cls(
            name=name if task is None else f"{name}@{task}",
            task=task,
            function=function,
            in_batches=any(p.name == "completions" for p in named),
            named=tuple(p.name for p in named),
            required=tuple(p.name for p in named if p.default is p.empty),
            takes_all=len(named) < len(parameters),
        )

    @property
    def built_in_names(self) -> tuple[str, ...]:
        """What it may name besides columns."""
        return BATCH_NAMES if self.in_batches else ROW_NAMES

    def missing(self, columns: Collection[str]) -> list[str]:
        """Required parameters that neither Heron nor these columns can fill."""
        return [name for name in self.required if name not in self.built_in_names and name not in columns]

    def scores(self, prompt: Prompt) -> bool:
        """Whether it is for rows such as this one."""
        return self.task is None or self.task == task_name(prompt.columns.get("task"))

    def outcomes(self, rollouts: Sequence[Rollout], tags: Tags, log: Log, watch: Watch, *, stop: bool) -> list[Outcome]:
        """One for each rollout. With `stop`, the first error is raised; a RewardError that a function returned in place of a score is not
        raised but excludes that rollout alone, whatever the policy: so a judge that failed for one reply says so."""
        if self.in_batches:
            watch.at = f"the batch that starts with row {rollouts[0].prompt.id}"
            values = _attempted(stop, lambda: list_of_scores(self._call_batch(rollouts, tags, log), self.name, rollouts))
            if isinstance(values, RewardError):
                return [values] * len(rollouts)
        else:
            values = self._call_rows(rollouts, tags, watch, stop)
        return [self._outcome(value, rollout, stop) for value, rollout in zip(values, rollouts, strict=True)]

    def _outcome(self, value: Any, rollout: Rollout, stop: bool) -> Outcome:
        if isinstance(value, RowFailed):
            return _attempted(stop, lambda: self._fail(value, [rollout]))
        return value if isinstance(value, RewardError) else _attempted(stop, lambda: checked_score(value, self.name, rollout))

    def _call_batch(self, rollouts: Sequence[Rollout], tags: Tags, log: Log) -> Any:
        returned = self._called(_batch_arguments(rollouts, tags, log), rollouts)
        if inspect.isawaitable(returned):
            (returned,) = _all_results([returned], self.name)
        if isinstance(returned, BaseException):
            self._fail(returned, rollouts)
        return returned

    def _call_rows(self, rollouts: Sequence[Rollout], tags: Tags, watch: Watch, stop: bool) -> list[Any]:
        def outcome(rollout: Rollout) -> Any:
            watch.at = f"row {rollout.prompt.id}"
            return _attempted(stop, lambda: self._call_row(rollout, tags))

        returned = _in_lanes(outcome, rollouts, getattr(self.function, LANES_MARK, 1))
        waiting = [index for index, value in enumerate(returned) if inspect.isawaitable(value)]
        for index, value in zip(waiting, _all_results([returned[index] for index in waiting], self.name), strict=True):
            returned[index] = _attempted(stop, lambda: self._settled(value, rollouts[index]))  # noqa: B023
        return returned

    def _call_row(self, rollout: Rollout, tags: Tags) -> Any:
        return self._called(_row_arguments(rollout, tags), [rollout])

    def _called(self, arguments: Mapping[str, Any], rollouts: Sequence[Rollout]) -> Any:
        """A function that ends the process (sys.exit) has failed like any other; Ctrl-C alone is not its own."""
        asked_for = {name: value for name, value in arguments.items() if self.takes_all or name in self.named}
        try:
            with no_copies(self.name):
                return self.function(**asked_for)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: what a user's function raises becomes an error that names it
            self._fail(error, rollouts)

    def _settled(self, value: Any, rollout: Rollout) -> Any:
        """What an awaited call came to."""
        return self._fail(value, [rollout]) if isinstance(value, BaseException) else value

    def _fail(self, error: BaseException, rollouts: Sequence[Rollout]) -> NoReturn:
        """A reward that raises has no score: a made-up one would be trained on."""
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" at {frame[0].filename}:{frame[0].lineno}" if frame else ""
        what = "failed" if isinstance(error, RewardError) else f"raised {type(error).__name__}{place}"
        first = rollouts[0].prompt.id
        kind = RewardStop if isinstance(error, RewardStop) else RewardError
        rows = f"row {first}" if len(rollouts) == 1 else f"{len(rollouts)} rows from {first} on"
        advice = "" if kind is RewardStop else " Let it return None where it does not apply."
        raise kind(
            f"The reward function {self.name} {what}: {error}. It was given {rows}, "
            f"with the completion {shortened(rollouts[0].text)}.{advice}"
        ) from error


class RowFailed(RewardError):
    """In place of a score: what a function in batch form would have raised, had it been asked for this row alone."""


TASK_MARK = "heron_task"
"""Attribute that holds the task that a function is for."""


PENALTY_MARK = "heron_penalty"
"""Attribute of a function that takes away only."""


def takes_away(function: Function) -> Function:
    """Marks a reward function whose best is 0: one that has nothing to take away is well, and is not called dead."""
    setattr(function, PENALTY_MARK, True)
    return function


LANES_MARK = "heron_lanes"
"""Attribute of a function that waits for processes of its own: for so many rows at once."""


def waits(lanes: int) -> Callable[[Function], Function]:
    """Marks a row function that leaves its work to so many processes: as many rows are scored at once."""

    def mark(function: Function) -> Function:
        setattr(function, LANES_MARK, lanes)
        return function

    return mark


def _in_lanes(call: Callable[[Rollout], Any], rollouts: Sequence[Rollout], lanes: int) -> list[Any]:
    """The call of each, in order; several at once where the function only waits, so that one that is late does not hold up all."""
    if lanes == 1 or len(rollouts) == 1:
        return [call(rollout) for rollout in rollouts]
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(max_workers=lanes, thread_name_prefix="heron-reward")
    try:
        futures = [threads.submit(copy_context().run, call, rollout) for rollout in rollouts]
        return [future.result() for future in futures]
    finally:
        threads.shutdown(cancel_futures=True)


def task_name(task: Any) -> str | None:
    """As it is written behind an `@`: 1 and 1.0, which a column of numbers with gaps makes of it, are `1`."""
    if task is None or isinstance(task, str):
        return task
    return str(int(task)) if isinstance(task, float) and task.is_integer() else str(task)


def _attempted(stop: bool, call: Callable[[], Any]) -> Any:
    """What the call returns, or its RewardError."""
    try:
        return call()
    except RewardError as error:
        if stop or isinstance(error, RewardStop):
            raise
        return error


def name_of(function: Callable[..., Any]) -> str:
    """The function's own name; for a partial, that of its function; for an object, that of its class."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    if not callable(function):
        raise ConfigError(f"A reward function must be callable, but {function!r} is a {type(function).__name__}.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError as error:
        raise ConfigError(f"The reward function {name} has no signature to read. Wrap it in a def.") from error
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise ConfigError(
                f"The reward function {name} has the parameter {parameter}, but arguments are given by name. "
                f"Name what it needs: {', '.join(ROW_NAMES)}, or a column."
            )
    return parameters


def _row_arguments(rollout: Rollout, tags: Tags) -> dict[str, Any]:
    prompt = rollout.prompt
    return {
        **prompt.columns,
        "completion": rollout.text,
        "prompt": prompt.question,
        "messages": [*_copies(prompt.messages), *_answer_messages(rollout)],
        "tags": tags,
        "prefilled": rollout.prefilled,
        "completion_ids": list(rollout.completion_ids),
        "truncated": rollout.truncated,
        "columns": dict(prompt.columns),
    }


def _batch_arguments(rollouts: Sequence[Rollout], tags: Tags, log: Log) -> dict[str, Any]:
    columns = dict.fromkeys(name for rollout in rollouts for name in rollout.prompt.columns)
    return {
        **{name: [rollout.prompt.columns.get(name) for rollout in rollouts] for name in columns},
        "prompts": [_prompt(rollout.prompt) for rollout in rollouts],
        "completions": [rollout.text if rollout.prompt.plain else _answer_messages(rollout) for rollout in rollouts],
        "completion_ids": [list(rollout.completion_ids) for rollout in rollouts],
        "tags": tags,
        "prefilled": [rollout.prefilled for rollout in rollouts],
        "truncated": [rollout.truncated for rollout in rollouts],
        "trainer_state": TrainerState(global_step=_newest(rollouts)),
        "log_extra": log.extra,
        "log_metric": log.metric,
    }


def _newest(rollouts: Sequence[Rollout]) -> int:
    return max((turn.completion.policy_version for rollout in rollouts for turn in rollout.turns), default=0)


def _prompt(prompt: Prompt) -> str | list[Message]:
    return prompt.question if prompt.plain else _copies(prompt.messages)


def _answer_messages(rollout: Rollout) -> list[Message]:
    """Everything behind the prompt, ending with the completion as it was sampled."""
    earlier = rollout.messages[len(rollout.prompt.messages) : -1]
    return [*_copies(earlier), {"role": "assistant", "content": rollout.text}]


def _copies(messages: Sequence[Message]) -> list[Message]:
    """A function that edits its messages must not edit the dataset."""
    return [dict(message) for message in messages]


def _all_results(awaitables: Sequence[Awaitable[Any]], name: str) -> list[Any]:
    """Results, or the exceptions raised, of all at once. A notebook runs a loop already: then in another thread."""
    if not awaitables:
        return []
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def settled(awaitable: Awaitable[Any]) -> Any:
        try:
            with no_copies(name):
                return await awaitable
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: one awaited call; a SystemExit would end the loop, and all others with it
            return error

    async def gather() -> list[Any]:
        return await asyncio.gather(*map(settled, awaitables))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(gather())
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, gather()).result()
