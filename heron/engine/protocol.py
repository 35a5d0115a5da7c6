"""What the rest of the house knows of an engine: token ids in, completions out.

An engine never sees text, rewards or gradients. A request is one prompt and the seeds of its siblings; a seed decides a
completion's random numbers, so a request draws the same tokens whatever it is batched with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from heron.errors import ConfigError
from heron.types import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to draw."""

    max_tokens: int
    """Most tokens of a completion."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token each time (greedy)."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, but it is {self.max_tokens}.")
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, but it is {self.temperature}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt and how many answers it wants."""

    prompt_ids: tuple[int, ...]
    """The prompt's tokens."""
    seeds: tuple[int, ...]
    """One seed per sibling; their number is the number of completions."""


class Engine(Protocol):
    """Samples completions from a policy."""

    exact_logprobs: bool
    """The log-probs that it reports are the trainer's own (up to rounding): one model, one code."""

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Callable[[int, int], None] | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds. `on_progress(finished, total)` counts completions."""
        ...

    def sync(self) -> None:
        """Take over the policy's newest weights. Nothing to do where the weights are shared."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Sampling happens inside; the cache is freed on leaving."""
        ...
