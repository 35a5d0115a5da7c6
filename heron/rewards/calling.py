"""Calls any reward function with the arguments that it names.

The hard idea: two conventions, told apart by one parameter name. A function that names `completions` is called once
for a whole batch, as TRL calls it: lists of prompts, completions, completion ids and dataset columns, by keyword. Any
other function is called once for each rollout, with whatever it names: parts of the rollout, or columns of its row.
Either may be async.

    def correct(completion, answer): ...                       # row form
    def correct(prompts, completions, answer, **kwargs): ...   # batch form

What a function asks for and nobody has is found by `missing`, before training. What it raises becomes a `RewardError`
that names the row and the completion. What it returns is checked in `heron.rewards.scores`.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from heron.errors import ConfigError, RewardError
from heron.rewards.scores import shortened
from heron.types import Message, Prompt, Rollout, Tags

ROW_NAMES = (
    "completion", "prompt", "messages", "tags", "prefilled", "completion_ids", "truncated", "columns",
)  # fmt: skip
"""What a row function may name besides columns; these win over columns of the same name."""
BATCH_NAMES = ("prompts", "completions", "completion_ids", "tags", "prefilled", "truncated")
"""What a batch function may name besides columns. All but `tags` are lists, one item per rollout."""


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

    @classmethod
    def of(cls, function: Callable[..., Any]) -> RewardFunction:
        """Reads the signature. Raises ConfigError if the function cannot be called by keyword."""
        name = name_of(function)
        parameters = _parameters(function, name)
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        return cls(
            name=name,
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

    def call(self, rollouts: Sequence[Rollout], tags: Tags) -> Any:
        """What it returns for each rollout: a list of its own making in batch form, one of ours in row form."""
        return self._call_batch(rollouts, tags) if self.in_batches else self._call_rows(rollouts, tags)

    def _call_batch(self, rollouts: Sequence[Rollout], tags: Tags) -> Any:
        try:
            returned = self.function(**self._asked_for(_batch_arguments(rollouts, tags)))
        except Exception as error:
            self._fail(error, rollouts)
        if inspect.isawaitable(returned):
            (returned,) = _all_results([returned])
        if isinstance(returned, BaseException):
            self._fail(returned, rollouts)
        return returned

    def _call_rows(self, rollouts: Sequence[Rollout], tags: Tags) -> list[Any]:
        returned = [self._call_row(rollout, tags) for rollout in rollouts]
        waiting = [index for index, value in enumerate(returned) if inspect.isawaitable(value)]
        for index, value in zip(waiting, _all_results([returned[index] for index in waiting]), strict=True):
            if isinstance(value, BaseException):
                self._fail(value, [rollouts[index]])
            returned[index] = value
        return returned

    def _call_row(self, rollout: Rollout, tags: Tags) -> Any:
        try:
            return self.function(**self._asked_for(_row_arguments(rollout, tags)))
        except Exception as error:
            self._fail(error, [rollout])

    def _asked_for(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in arguments.items() if self.takes_all or name in self.named}

    def _fail(self, error: BaseException, rollouts: Sequence[Rollout]) -> NoReturn:
        """A reward that raises stops the run: a made-up score would be trained on."""
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" at {frame[0].filename}:{frame[0].lineno}" if frame else ""
        first = rollouts[0].prompt.id
        rows = f"row {first}" if len(rollouts) == 1 else f"{len(rollouts)} rows from {first} on"
        raise RewardError(
            f"The reward function {self.name} raised {type(error).__name__}{place}: {error}. It was given {rows}, "
            f"with the completion {shortened(rollouts[0].text)}. Let it return None where it does not apply."
        ) from error


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


def _batch_arguments(rollouts: Sequence[Rollout], tags: Tags) -> dict[str, Any]:
    columns = dict.fromkeys(name for rollout in rollouts for name in rollout.prompt.columns)
    return {
        **{name: [rollout.prompt.columns.get(name) for rollout in rollouts] for name in columns},
        "prompts": [_prompt(rollout.prompt) for rollout in rollouts],
        "completions": [rollout.text if rollout.prompt.plain else _answer_messages(rollout) for rollout in rollouts],
        "completion_ids": [list(rollout.completion_ids) for rollout in rollouts],
        "tags": tags,
        "prefilled": [rollout.prefilled for rollout in rollouts],
        "truncated": [rollout.truncated for rollout in rollouts],
    }


def _prompt(prompt: Prompt) -> str | list[Message]:
    return prompt.question if prompt.plain else _copies(prompt.messages)


def _answer_messages(rollout: Rollout) -> list[Message]:
    """Everything behind the prompt, ending with the completion as it was sampled."""
    earlier = rollout.messages[len(rollout.prompt.messages) : -1]
    return [*_copies(earlier), {"role": "assistant", "content": rollout.text}]


def _copies(messages: Sequence[Message]) -> list[Message]:
    """A function that edits its messages must not edit the dataset."""
    return [dict(message) for message in messages]


def _all_results(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    """Results, or the exceptions raised, of all at once. A notebook runs a loop already: then in another thread."""
    if not awaitables:
        return []
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def gather() -> list[Any]:
        return await asyncio.gather(*awaitables, return_exceptions=True)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(gather())
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, gather()).result()
