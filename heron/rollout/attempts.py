"""One attempt at a prompt in the making, and the count of those of a group that are still open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heron.types import Message, Prompt, Rollout, Turn

OnGroup = Callable[[int, Sequence[Rollout]], None]
"""Called with the number of a group and its rollouts, unscored, when the last of them is done."""


@dataclass(slots=True)
class Attempt:
    """A rollout in the making."""

    group: int
    prompt: Prompt
    seed: int
    messages: list[Message]
    next_prompt: tuple[int, ...]
    prefilled: str
    turns: list[Turn] = field(default_factory=list)
    text: str = ""
    cut: bool = False

    def context(self) -> tuple[int, ...]:
        """All tokens that the next completion will see."""
        said = [token for turn in self.turns for token in (*turn.prompt_ids, *turn.completion.token_ids)]
        return (*said, *self.next_prompt)

    def rollout(self) -> Rollout:
        """As a value, unscored."""
        return Rollout(
            prompt=self.prompt, turns=tuple(self.turns), text=self.text, prefilled=self.prefilled, messages=tuple(self.messages),
            cut=self.cut,
        )


class OpenGroups:
    """Tells of each group when its last attempt is done."""

    def __init__(self, groups: Sequence[Sequence[Attempt]], on_group: OnGroup) -> None:
        self._groups = groups
        self._on_group = on_group
        self._open = [len(group) for group in groups]

    def close(self, attempt: Attempt) -> None:
        """One more attempt is done."""
        self._open[attempt.group] -= 1
        if self._open[attempt.group] == 0:
            self._on_group(attempt.group, [each.rollout() for each in self._groups[attempt.group]])
