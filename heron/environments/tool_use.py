"""Tools: the model may call them, and an answer without a call ends the conversation.

The hard idea: everything the model does wrong is told to the model. So a rollout with ten bad calls is a rollout like any other, and the
messages themselves say what failed (`failure`), from which `environment.bad_calls` and `environment.failed_calls` are counted.

The tools are told to the model by its chat template, or, for a template that knows none, by text in front of the question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from heron.environments.protocol import RewardFunctions
from heron.environments.tool_calls import Call, find_calls
from heron.environments.tools import Outcome, Tool
from heron.errors import ConfigError, did_you_mean
from heron.rewards import Verdict
from heron.rewards.neutral import broken_up
from heron.types import Message, Prompt, Tags

MOST_CALLS = 8
"""Calls of one answer that are carried out; further ones are told so."""
LONGEST_NAME = 80
"""Characters of a name that a model asked for, as they are repeated."""


class ToolUse:
    """Answers calls of tools."""

    uses_verifier = True

    def __init__(self, tags: Tags, tools: Sequence[Tool], *, is_plain: bool = False, max_turns: int = 6) -> None:
        names = [tool.name for tool in tools]
        if len(set(names)) < len(names):
            raise ConfigError(f"Two tools have the same name: {', '.join(names)}. Rename one of them.")
        if max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 to call a tool and answer, but it is {max_turns}.")
        self.tags = tags
        self.by_name = {tool.name: tool for tool in tools}
        self.is_plain = is_plain
        self.max_turns = max_turns

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Schemas for the chat template; none where they are told by text."""
        return () if self.is_plain else tuple(tool.schema for tool in self.by_name.values())

    @property
    def runs_programs(self) -> bool:
        """One of the tools does."""
        return any(tool.runs_programs for tool in self.by_name.values())

    @property
    def rewards(self) -> RewardFunctions:
        """Counts, for weights of 0 or small ones: all calls, those that could not be made, those whose tool raised."""
        return {
            "calls": lambda messages: float(len(_results(messages))),
            "bad_calls": lambda messages: float(_failures(messages, "call")),
            "failed_calls": lambda messages: float(_failures(messages, "tool")),
        }

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The row's messages, the first of which tells of the tools where the template does not."""
        if not self.is_plain:
            return prompt.messages
        first, *rest = prompt.messages
        return ({**first, "content": f"{self._told()}\n\n{first['content']}"}, *rest)

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """At an answer without a call."""
        return not self._calls(messages)

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The results, one message for each call. None can end its own turn: control tokens in them are broken up."""
        return tuple(self._reply(call, number) for number, call in enumerate(self._calls(messages)[: MOST_CALLS + 1]))

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict | None:
        """The last answer decides."""
        return None

    def _calls(self, messages: Sequence[Message]) -> list[Call]:
        return find_calls(str(messages[-1]["content"]), self.tags)

    def _reply(self, call: Call, number: int) -> Message:
        outcome = self._outcome(call) if number < MOST_CALLS else Outcome(
            text=f"Error: an answer may make {MOST_CALLS} calls. Make the others in the next one.", failure="call")
        failure = {} if outcome.failure is None else {"failure": outcome.failure}
        name, text = broken_up(call.name[:LONGEST_NAME]), broken_up(outcome.text)
        if self.is_plain:
            return {"role": "user", "content": f"result: {text}", "tool": name, **failure}
        return {"role": "tool", "name": name, "content": text, "tool": name, **failure}

    def _outcome(self, call: Call) -> Outcome:
        if call.wrong is not None:
            return Outcome(text=f"Error: {call.wrong}", failure="call")
        if call.name not in self.by_name:
            known = f"{did_you_mean(call.name, self.by_name)} There are {', '.join(self.by_name)}."
            return Outcome(text=f"Error: there is no tool {call.name[:LONGEST_NAME]!r}.{known}", failure="call")
        return self.by_name[call.name].call(call.arguments)

    def _told(self) -> str:
        lines = [f"- {tool.name}: {tool.schema['function']['description']} {_parameters(tool)}" for tool in self.by_name.values()]
        return "\n".join(["You may call tools, each on a line such as call: name(argument=\"value\"). There are:", *lines])


def _parameters(tool: Tool) -> str:
    return json.dumps(tool.schema["function"]["parameters"]["properties"], ensure_ascii=False)


def _results(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if "tool" in message]


def _failures(messages: Sequence[Message], kind: str) -> int:
    return sum(message.get("failure") == kind for message in _results(messages))
