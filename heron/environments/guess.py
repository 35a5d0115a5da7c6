"""A game: guess a number; each wrong guess is answered with `higher` or `lower`.

The hard idea: the number is a column of the row, which no message shows, so the hints are all there is to know; and the whole game is
read again from the messages each time, so nothing is remembered that a resumed run would lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heron.data.tasks.guess import hint
from heron.environments.protocol import RewardFunctions
from heron.errors import ConfigError, DataError
from heron.rewards import Verdict, only_number, said
from heron.types import Message, Prompt, Tags


class Guess:
    """Rows of `tasks.guess`, or any with the columns `low`, `high` (the number is neither) and `answer`."""

    tools = ()
    uses_verifier = False

    def __init__(self, tags: Tags, *, max_turns: int = 4) -> None:
        if max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 to use a hint, but it is {max_turns}. 4 find every number among 15.")
        self.tags = tags
        self.max_turns = max_turns

    @property
    def rewards(self) -> RewardFunctions:
        """`solved` is what counts; `sense` is the share of guesses that agree with all hints before them."""
        return {"solved": self._solved, "sense": self._sense}

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The row's own messages."""
        missing = [name for name in ("low", "high", "answer") if name not in prompt.columns]
        if missing:
            raise DataError(f"Row {prompt.id} has no column {' and '.join(missing)}, which the game needs. data.dataset = \"tasks.guess\" "
                            "makes such rows.")
        return prompt.messages

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """At the right guess."""
        return self.verdict(prompt, messages) is Verdict.RIGHT

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """A hint; or what a guess is, to an answer that is none."""
        guess = self._guess(messages[-1])
        low, high = prompt.columns["low"], prompt.columns["high"]
        text = f"Guess one number between {low} and {high}." if guess is None else hint(prompt.columns["answer"], guess)
        return ({"role": "user", "content": text},)

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict:
        """Of the last guess."""
        guess = self._guess(messages[-1])
        if guess is None:
            return Verdict.UNREADABLE
        return Verdict.RIGHT if guess == int(prompt.columns["answer"]) else Verdict.WRONG

    def _solved(self, messages: Sequence[Message], answer: Any) -> float:
        """1.0 if the last guess is the number, else 0.0."""
        return float(self._guess(messages[-1]) == int(answer))

    def _sense(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> float:
        """Share of the answers that are a guess between the bounds that the hints before it left."""
        made = list(self._sensible(messages, columns))
        return sum(made) / len(made)

    def _sensible(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> Iterator[bool]:
        low, high, secret = (int(columns[name]) for name in ("low", "high", "answer"))
        for message in messages:
            if message["role"] != "assistant":
                continue
            guess = self._guess(message)
            yield guess is not None and low < guess < high
            if guess is not None:
                low, high = (max(low, guess), high) if guess < secret else (low, min(high, guess))

    def _guess(self, message: Message) -> int | None:
        """The one whole number that a message says, between answer tags where it has any."""
        found = only_number(said(str(message["content"]), self.tags))
        return int(found) if found is not None and found == int(found) else None
