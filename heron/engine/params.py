"""How to draw: everything that decides which tokens an engine may choose, and when it stops.

The one hard idea: names, ranges and order of the filters are those of transformers' `generate` (repetition penalty, temperature, top-k,
top-p, min-p), so a setting means here what it means there. What it leaves out: the random numbers (a request's seeds decide them) and the
arithmetic (`kernels.sampling`, `kernels.filters`, `engine.native.sampler`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from heron.engine.structure import Structure
from heron.errors import ConfigError
from heron.types import LEAST_TEMPERATURE


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to draw."""

    max_tokens: int
    """Most tokens of a completion."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token each time (greedy)."""
    top_k: int = 0
    """Only so many of the likeliest tokens (and those that are as likely as the last of them); 0 means all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together hold this probability; 1 means all."""
    min_p: float = 0.0
    """Only tokens with at least this share of the likeliest token's probability; 0 means all."""
    repetition_penalty: float = 1.0
    """Logits of tokens in the prompt or the completion are divided by it if positive, else multiplied (CTRL, arXiv:1909.05858, 4.1)."""
    stop: tuple[str, ...] = ()
    """A completion ends with the token that completes one of these strings."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end a completion, besides the model's end tokens."""
    ignore_end: bool = False
    """The model's end tokens end nothing: completions go on to `max_tokens`, for measurements of speed."""
    structure: Structure | None = None
    """What the text of every completion must match; its tokens are masked accordingly."""
    pause_after: int = 0
    """Pause a completion (`FinishReason.PAUSED`) once it has said so many tokens in this call; 0: never."""

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_stops()
        if self.structure is not None and self.ignore_end:
            raise ConfigError("ignore_end is True, but a complete structure has nothing to go on with. Give only one of the two.")

    @property
    def is_filtered(self) -> bool:
        """Some tokens may be left out of the draw for being unlikely."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    def _check_numbers(self) -> None:
        check = _Checker(self)
        check("max_tokens", int, "at least 1", lambda n: n >= 1)
        check("temperature", float, f"0 (greedy) or at least {LEAST_TEMPERATURE}", lambda t: t == 0 or t >= LEAST_TEMPERATURE)
        check("pause_after", int, "0 (never) or more", lambda n: n >= 0)
        check("top_k", int, "0 (off) or more", lambda k: k >= 0)
        check("top_p", float, "above 0 and at most 1", lambda p: 0 < p <= 1)
        check("min_p", float, "between 0 and 1", lambda p: 0 <= p <= 1)
        check("repetition_penalty", float, "above 0", lambda penalty: penalty > 0)

    def _check_stops(self) -> None:
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise ConfigError(f'stop must be a tuple of strings that are not empty, but it is {self.stop!r}. Example: ("</answer>",).')
        ids = self.stop_token_ids
        if not isinstance(ids, tuple) or not all(_is_number(token, int) and token >= 0 for token in ids):
            raise ConfigError(f"stop_token_ids must be a tuple of token numbers, 0 or more, but it is {ids!r}. Example: (151645,).")
        if not isinstance(self.ignore_end, bool):
            raise ConfigError(f"ignore_end must be True or False, but it is {self.ignore_end!r}.")
        if self.structure is not None and not isinstance(self.structure, Structure):
            raise ConfigError(f'structure must be a Structure or None, but it is {self.structure!r}. Example: Structure(regex="[0-9]+").')


class _Checker:
    """Asks one number after the other for its kind and range."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params

    def __call__(self, name: str, kind: type, asked: str, holds: Callable[[float], bool]) -> None:
        value = getattr(self.params, name)
        noun = "a whole number" if kind is int else "a finite number"
        if not _is_number(value, kind) or not holds(value):
            raise ConfigError(f"{name} must be {noun}, {asked}, but it is {value!r}.")


def _is_number(value: object, kind: type) -> bool:
    """Finite, and no bool in disguise; where a float is asked for, an int will do."""
    allowed = (int,) if kind is int else (int, float)
    return isinstance(value, allowed) and not isinstance(value, bool) and math.isfinite(value)
