"""A second chance: the model is told that its answer is wrong, and answers once more.

The hard idea: the environment says *that* the answer is wrong, never what is right; and it stops at a right answer,
so that there is nothing to gain from getting it wrong first but the risk of a longer rollout.
"""

from __future__ import annotations

from heron.environments.protocol import NO_REWARDS
from heron.errors import ConfigError, DataError
from heron.rewards import Verdict, Verifier, answer_text, verifiers
from heron.types import Message, Prompt, Tags

REPLIES = {
    Verdict.WRONG: "That is not right. Look for the mistake, and answer once more in the same format.",
    Verdict.UNREADABLE: "There is no answer that can be read. Answer once more, in the format that was asked for.",
}


class Retry:
    """Verifies each answer; a wrong or unreadable one gets a reply, up to `max_turns` answers in all."""

    tools = ()
    uses_verifier = True
    rewards = NO_REWARDS

    def __init__(self, tags: Tags, *, verifier: Verifier = verifiers["number"], max_turns: int = 2) -> None:
        if max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 to try again, but it is {max_turns}. Use single_turn.")
        self.tags = tags
        self.verifier = verifier
        self.max_turns = max_turns

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The prompt's own messages."""
        if prompt.answer is None:
            raise DataError(f"Row {prompt.id} has no answer to verify against. Give every row one, or use single_turn.")
        return prompt.messages

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """At a right answer."""
        return self.verdict(prompt, messages) is Verdict.RIGHT

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """What is wrong with the answer, but not what is right."""
        return ({"role": "user", "content": REPLIES[self.verdict(prompt, messages)]},)

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict:
        """Of the last answer."""
        answer = answer_text(str(messages[-1]["content"]), self.tags)
        return Verdict.UNREADABLE if answer is None else self.verifier(answer, str(prompt.answer))
