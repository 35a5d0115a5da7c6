"""What an environment is, and the simplest one.

The hard idea: single-turn is multi-turn with one turn, so whoever drives the rollouts knows one loop: sample, ask the
environment for a reply, go on until it has none or `max_turns` answers were given. An environment keeps no state of
its own, since one object serves many rollouts at once: whatever it needs to know is in the prompt and the messages.
"""

from __future__ import annotations

from typing import Protocol

from heron.types import Message, Prompt


class Environment(Protocol):
    """Answers a model's turn."""

    @property
    def max_turns(self) -> int:
        """Most answers of the model in one rollout, at least 1."""

    def reset(self, prompt: Prompt) -> tuple[Message, ...]:
        """The messages that the first answer is sampled for."""

    def respond(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """New messages after the model's last one, or None if the rollout is done. Not asked after the last turn."""


class SingleTurn:
    """One question, one answer."""

    max_turns = 1

    def reset(self, prompt: Prompt) -> tuple[Message, ...]:
        return prompt.messages

    def respond(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        return None
