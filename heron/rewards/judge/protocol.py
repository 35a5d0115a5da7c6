"""What a judge is to the rest of Heron: conversations in, texts out, a failure in place of a text.

The hard idea: a judge that fails has not said 0. What failed for one reply is a `RewardError` in place of its answer, which leaves that
reply out of its group; what makes going on pointless (no such model, money spent, an outage that lasts) is a `RewardStop`, raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from heron.errors import RewardError
from heron.rewards.judge.cache import Cache
from heron.types import Message

Schema = Mapping[str, Any]
"""JSON schema of the answer."""


class Judge(Protocol):
    """Answers conversations."""

    model: str
    """What the model is called in the config."""
    cache: Cache
    """Where its answers are kept."""
    max_concurrent: int
    """How many conversations it takes at once."""

    @property
    def name(self) -> str:
        """Which model it is, for the cache and for the record: another name is another judge."""
        ...

    @property
    def budget_used(self) -> float | None:
        """Share of what it may spend that is spent; None where nothing limits it."""
        ...

    def ask(self, conversations: Sequence[Sequence[Message]], schema: Schema) -> Iterator[tuple[int, str | RewardError]]:
        """The number of each conversation and its answer, as they come; the text need not follow the schema. May raise RewardStop."""
        ...
