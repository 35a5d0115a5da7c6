"""What an environment is, and the simplest one.

The hard idea: single-turn is multi-turn with one turn, so whoever drives the rollouts knows one loop: `start`, sample, and until `done`
or `max_turns` answers were given, `step` and sample again. An environment keeps no state of its own, since one object serves many rollouts
at once and a run can be resumed: whatever it needs to know is in the prompt (which nobody shows to the model, but for its messages) and in
the messages so far.

One that runs in the sandbox what a model wrote says `runs_programs = True`: no run of it begins without a sandbox, and its record names it.

What it leaves out: tokens and masks. What `step` returns is appended as tokens and never trained (`rollout.collect`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from heron.rewards import Verdict
from heron.types import Message, Prompt

RewardFunctions = Mapping[str, Callable[..., Any]]
"""Reward functions in row form by name, async or not: what `environment.NAME` in `rewards.functions` means."""


class Environment(Protocol):
    """Answers a model's turns."""

    @property
    def max_turns(self) -> int:
        """Most answers of the model in one rollout, at least 1."""

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """JSON schemas of the tools that the chat template is to write into every prompt; empty for none."""

    @property
    def rewards(self) -> RewardFunctions:
        """What it can score by itself, from the messages and the row's columns; may be empty."""

    @property
    def uses_verifier(self) -> bool:
        """The last answer decides: it is compared with the row's reference."""

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The messages that the first answer is sampled for: as many as the prompt has. Raises DataError for a row that will not do."""

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """Whether it is over with the model's last message."""

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """At least one new message after the model's last one. Asked only if it is not done and there are turns left."""

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict | None:
        """What became of it. None where the last answer decides, which the evaluation's verifier judges."""


NO_REWARDS: RewardFunctions = MappingProxyType({})


class SingleTurn:
    """One question, one answer."""

    max_turns = 1
    tools = ()
    uses_verifier = True
    rewards = NO_REWARDS

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        return prompt.messages

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        return True

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        raise AssertionError("there is no second turn")

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict | None:
        return None
