"""vLLM's `SamplingParams`, by its names and defaults, for `fast_generate`; no vLLM is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to draw. An unknown name is a TypeError; a penalty, of which there is none here, a ConfigError."""

    n: int = 1
    """Answers to each prompt."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    top_k: int = -1
    """-1 or 0: all tokens."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int = 16
    """vLLM's own default."""
    stop: str | Sequence[str] | None = None
    include_stop_str_in_output: bool = False
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("presence_penalty", "frequency_penalty"):
            if getattr(self, name):
                raise ConfigError(f"SamplingParams({name}={getattr(self, name)}) cannot be honoured: there is repetition_penalty.")

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def is_plain(self) -> bool:
        """Every token can be drawn with its own probability: what a loss can be computed of."""
        filters = (self.top_p == 1.0, self.top_k in (-1, 0), self.min_p == 0.0, self.repetition_penalty == 1.0)
        return all(filters) and not self.stop_token_ids and not self.ignore_eos

    def cut(self, text: str) -> str:
        """The text without what stopped it."""
        if self.include_stop_str_in_output:
            return text
        ends = [text.find(stop) for stop in self.stops if stop in text]
        return text[: min(ends)] if ends else text
