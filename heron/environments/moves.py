"""A game: reach a target from some numbers by moves such as `8 * 3`, one a turn.

The hard idea: the numbers that are left are played again from the first move each time, so the messages are the whole state. A move that
cannot be made costs a turn and changes nothing. It is over when the target is there, or only one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heron.data.tasks.countdown import after_move, shown
from heron.environments.protocol import RewardFunctions
from heron.errors import ConfigError, DataError
from heron.rewards import Verdict, said
from heron.types import Message, Prompt, Tags

Numbers = tuple[int, ...]


class Moves:
    """Rows of `tasks.moves`, or any with the columns `numbers` and `target`."""

    tools = ()
    uses_verifier = False

    def __init__(self, tags: Tags, *, max_turns: int = 6) -> None:
        if max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 for a game of several moves, but it is {max_turns}.")
        self.tags = tags
        self.max_turns = max_turns

    @property
    def rewards(self) -> RewardFunctions:
        """`solved` is what counts; `legal` is the share of moves that could be made."""
        return {"solved": self._solved, "legal": self._legal}

    def start(self, prompt: Prompt) -> tuple[Message, ...]:
        """The row's own messages."""
        numbers, target = prompt.columns.get("numbers"), prompt.columns.get("target")
        is_row = isinstance(numbers, list | tuple) and all(type(number) is int for number in numbers) and type(target) is int
        if not is_row:
            raise DataError(f"Row {prompt.id} has the numbers {numbers!r} and the target {target!r}, but the game needs whole numbers. "
                            'data.dataset = "tasks.moves" makes such rows.')
        return prompt.messages

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        """At the target, or where no move is left."""
        left = self._left(messages, prompt.columns)
        return prompt.columns["target"] in left or len(left) == 1

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The numbers that are left; said to be unchanged after a move that cannot be made."""
        text = shown(self._left(messages, prompt.columns))
        is_legal = self._played(messages, prompt.columns)[-1]
        return ({"role": "user", "content": text if is_legal else f"no move; {text}"},)

    def verdict(self, prompt: Prompt, messages: tuple[Message, ...]) -> Verdict:
        """Whether the target is there; unreadable if the last answer is no move."""
        if prompt.columns["target"] in self._left(messages, prompt.columns):
            return Verdict.RIGHT
        return Verdict.WRONG if self._played(messages, prompt.columns)[-1] else Verdict.UNREADABLE

    def _solved(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> float:
        """1.0 if the target is among the numbers that are left, else 0.0."""
        return float(columns["target"] in self._left(messages, columns))

    def _legal(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> float:
        """Share of the answers that are a move which can be made."""
        played = self._played(messages, columns)
        return sum(played) / len(played)

    def _left(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> Numbers:
        """The numbers after all moves."""
        return [tuple(columns["numbers"]), *(left for left, _ in self._states(messages, columns))][-1]

    def _played(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> list[bool]:
        """For each answer: could it be made."""
        return [is_legal for _, is_legal in self._states(messages, columns)]

    def _states(self, messages: Sequence[Message], columns: Mapping[str, Any]) -> Iterator[tuple[Numbers, bool]]:
        """The numbers after each answer, and whether it was a move."""
        numbers: Numbers = tuple(columns["numbers"])
        for message in messages:
            if message["role"] == "assistant":
                left = after_move(numbers, said(str(message["content"]), self.tags))
                numbers = numbers if left is None else left
                yield numbers, left is not None
