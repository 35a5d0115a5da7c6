"""TRL's `tools` and `environment_factory` as an environment of Heron's.

The hard idea: TRL's environments have state, one object a rollout; Heron's have none, so that siblings can be sampled at once. So the
object of a rollout travels in its messages: `reset` is called once for a prompt, which all its siblings are then shown, and the first reply
to each of them carries a copy of what was reset (`Episode`), on which the calls of that rollout act from then on. A rollout without any
call has changed nothing, and is scored by a copy of what was reset.

So siblings always begin in the same state, which TRL leaves to the environment. Left out: several environments in one run, whose prompts
would show different tools.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heron.compat.trl.inputs import ROW
from heron.environments import ToolUse
from heron.environments.protocol import NO_REWARDS
from heron.environments.tools import Tool
from heron.errors import ConfigError, DataError
from heron.types import Message, Prompt, Tags

RESERVED = ("reset", "get_reward")
"""Methods that are no tools."""
MOST_TURNS = 1000
"""Where TRL sets no limit: the model's context ends a rollout sooner."""
KEPT = 4096
"""Prompts whose state after `reset` is kept, the newest."""
PLACEHOLDER = "The environment asks."
"""In a row that is written for an environment that asks by itself."""


class Episode(int):
    """The number of a rollout that called a tool; it carries the environment that it acts on."""

    instance: Any

    @classmethod
    def of(cls, number: int, instance: Any) -> Episode:
        made = cls(number)
        made.instance = instance
        return made


class Episodes:
    """Replies to calls of tools, each rollout's with an object of its own."""

    uses_verifier = False
    rewards = NO_REWARDS

    def __init__(
        self, tools: Sequence[Callable[..., Any]], factory: Callable[[], Any] | None, *, rows: Sequence[Mapping[str, Any]],
        max_calls: int | None, tags: Tags, asks: bool,
    ) -> None:
        """`asks` says that the environment's `reset` returns the whole prompt; else it may add to it."""
        self._factory, self._rows, self._tags, self._asks = factory, rows, tags, asks
        self.max_turns = MOST_TURNS if max_calls is None else max_calls + 1
        self._kind = None if factory is None else type(_made(factory))
        self._plain = [Tool.of(tool) for tool in tools]
        self._methods = [] if factory is None else [Tool.of(method) for method in _methods(_made(factory))]
        if not self._plain and not self._methods:
            raise ConfigError("There are no tools: give some, or an environment with public methods that have a docstring.")
        self._shown = self._calls_on(None)
        self._begun: OrderedDict[int, Any] = OrderedDict()
        self._count = 0

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Their schemas, for the chat template."""
        return self._shown.tools

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The row's messages, with what `reset` said."""
        if self._factory is None:
            return prompt.messages
        number = int(prompt.columns[ROW])
        instance = _made(self._factory)
        said = instance.reset(**self._rows[number])
        self._begun[number] = instance
        self._begun.move_to_end(number)
        if len(self._begun) > KEPT:
            self._begun.popitem(last=False)
        return self._told(prompt, said)

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """At an answer without a call."""
        return self._shown.done(prompt, messages)

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The results of the calls, on the rollout's own environment."""
        if self._factory is None:
            return self._shown.step(prompt, messages)
        episode = _episode_in(messages)
        if episode is None:
            self._count += 1
            episode = Episode.of(self._count, self._copy_of(int(prompt.columns[ROW])))
        replies = self._calls_on(episode.instance).step(prompt, messages)
        return tuple({**reply, "episode": episode} for reply in replies)

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> None:
        """Rewards alone say what became of it."""

    def of_batch(self, numbers: Sequence[int], completions: Sequence[Any]) -> list[Any] | None:
        """The environments of rollouts, as they left them; None where there are only tools."""
        if self._factory is None:
            return None
        found = (_episode_in(messages) for messages in completions)
        return [
            self._copy_of(number) if episode is None else episode.instance for number, episode in zip(numbers, found, strict=True)
        ]

    def own_rewards(self) -> list[Callable[..., Any]]:
        """What the environment gives itself with `get_reward`, under its class's name."""
        if self._kind is None or not hasattr(self._kind, "get_reward"):
            return []
        is_async = inspect.iscoroutinefunction(self._kind.get_reward)

        def scored(completions: list[Any], trl_row: list[int]) -> Any:
            return [each.get_reward() for each in self.of_batch(trl_row, completions) or ()]

        async def scored_later(completions: list[Any], trl_row: list[int]) -> Any:
            return [await each.get_reward() for each in self.of_batch(trl_row, completions) or ()]

        chosen = scored_later if is_async else scored
        chosen.__name__ = self._kind.__name__
        return [chosen]

    def _calls_on(self, instance: Any) -> ToolUse:
        """What carries calls out, those of methods on this object."""
        bound = self._methods if instance is None else [
            dataclasses.replace(tool, function=getattr(instance, tool.name)) for tool in self._methods]
        return ToolUse(self._tags, [*self._plain, *bound], max_turns=self.max_turns)

    def _told(self, prompt: Prompt, said: Any) -> tuple[Message, ...]:
        if said is not None and not isinstance(said, str):
            raise ConfigError(f"{self._kind} returned {said!r:.80} from reset(). Return a text, or None: images are not supported.")
        if self._asks and not said:
            raise DataError(f"{self._kind} returned no prompt from reset(), and there is no train_dataset. Return one, or give a dataset.")
        *before, last = prompt.messages
        content = str(said) if self._asks else str(last["content"]) + (said or "")
        return (*before, {**last, "content": content})

    def _copy_of(self, number: int) -> Any:
        """A copy of what was reset for a row."""
        try:
            return copy.deepcopy(self._begun[number])
        except Exception as error:  # boundary: how an environment of the user's is copied is its own code
            raise ConfigError(f"The environment {self._kind} cannot be copied for the siblings of a prompt: {error}. Keep connections out "
                              "of what reset() sets, or give it a __deepcopy__.") from error


def only_factory(given: Any) -> Callable[[], Any] | None:
    """The environment's class; of a mapping of names that of its only one."""
    if not isinstance(given, Mapping):
        return given  # type: ignore[no-any-return]
    if len(given) != 1:
        raise ConfigError(f"environment_factory names {len(given)} environments. One run has one here: its tools stand in every prompt. "
                          "Train them one after the other.")
    return next(iter(given.values()))  # type: ignore[no-any-return]


def _made(factory: Callable[[], Any]) -> Any:
    instance = factory()
    if not callable(getattr(instance, "reset", None)):
        raise ConfigError(f"The environment {type(instance).__name__} has no method reset(), which begins every rollout.")
    return instance


def _methods(instance: Any) -> list[Callable[..., Any]]:
    """The public ones, which are tools."""
    names = [name for name, _ in inspect.getmembers(type(instance), predicate=inspect.isfunction)]
    return [getattr(instance, name) for name in names if not name.startswith("_") and name not in RESERVED]


def _episode_in(messages: Any) -> Episode | None:
    """That of a conversation; None if no tool was called in it."""
    said = () if isinstance(messages, str) else messages
    return next((message["episode"] for message in said if isinstance(message.get("episode"), Episode)), None)
