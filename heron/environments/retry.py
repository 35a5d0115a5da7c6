"""A second chance: the model is told that its answer is wrong, and answers once more.

The hard idea: the environment says *that* the answer is wrong, never what is right; and it stops at a right answer,
so that there is nothing to gain from getting it wrong first but the risk of a longer rollout.
"""

from __future__ import annotations

from heron.errors import ConfigError, DataError
from heron.rewards import Verdict, Verifier, answer_text, verifiers
from heron.types import Message, Prompt, Tags

REPLIES = {
    Verdict.WRONG: "That is not right. Look for the mistake, and answer once more in the same format.",
    Verdict.UNREADABLE: "There is no answer that can be read. Answer once more, in the format that was asked for.",
}


class Retry:
    """Verifies each answer; a wrong or unreadable one gets a reply, up to `max_turns` answers in all."""

    def __init__(self, tags: Tags, *, verifier: Verifier = verifiers["number"], max_turns: int = 2) -> None:
        if max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 to try again, but it is {max_turns}. Use SingleTurn.")
        self.tags = tags
        self.verifier = verifier
        self.max_turns = max_turns

    def reset(self, prompt: Prompt) -> tuple[Message, ...]:
        """The prompt's own messages."""
        if prompt.answer is None:
            raise DataError(f"Row {prompt.id} has no answer to verify against. Give every row one, or use SingleTurn.")
        return prompt.messages

    def respond(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """A reply to a wrong answer; None to a right one."""
        verdict = self._verdict(prompt, str(messages[-1]["content"]))
        return None if verdict is Verdict.RIGHT else ({"role": "user", "content": REPLIES[verdict]},)

    def _verdict(self, prompt: Prompt, completion: str) -> Verdict:
        answer = answer_text(completion, self.tags)
        return Verdict.UNREADABLE if answer is None else self.verifier(answer, str(prompt.answer))
