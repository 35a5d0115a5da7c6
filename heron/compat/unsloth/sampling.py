"""vLLM's `SamplingParams`, by its names and defaults, for `fast_generate`; no vLLM is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from heron.errors import ConfigError

ENDINGS = ("stop", "stop_token_ids", "include_stop_str_in_output")
"""What ends an answer."""
OFF: Mapping[str, tuple[Any, ...]] = {"top_k": (-1, 0)}
"""Values that set nothing, where there are others than the default."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        return f"SamplingParams({', '.join(f'{name}={value!r}' for name, value in self._set().items())})"

    def _set(self) -> dict[str, Any]:
        """What is not off."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if value not in OFF.get(name, (default,))}

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def idle_in_training(self) -> dict[str, Any]:
        """What was set and a trainer does not draw by: filters, which the loss would not see, and what `GRPOConfig` says itself."""
        return {name: value for name, value in self._set().items() if name not in (*ENDINGS, "seed")}

    def cut(self, text: str) -> str:
        """The text without what stopped it."""
        if self.include_stop_str_in_output:
            return text
        ends = [text.find(stop) for stop in self.stops if stop in text]
        return text[: min(ends)] if ends else text
