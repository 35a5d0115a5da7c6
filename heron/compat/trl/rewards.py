"""The reward functions that TRL ships, under their names: `from heron.compat.trl.rewards import accuracy_reward`.

The formulas are TRL's. What is right or wrong is decided by Heron's verifier `math` (the extra `math`), which is stricter: a final answer
stands in `\\boxed{...}`, or else in the last piece of LaTeX, and must be one finished expression; what is still to be computed is not
right. A reference that cannot be read gives None, as in TRL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from heron.errors import ConfigError, RewardError
from heron.rewards import Verdict, resolve_verifier

Completions = Sequence[Sequence[dict[str, Any]]]
_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_THOUGHT = re.compile(r"^<think>(?!.*<think>)(.*?)</think>.*$", re.DOTALL | re.MULTILINE)


def accuracy_reward(
    completions: Completions, solution: Sequence[str], log_extra: Callable[[str, list[Any]], None] | None = None, **kwargs: Any,
) -> list[float | None]:
    """1 for a right final answer, 0 for any other; None where the solution cannot be read."""
    texts = [str(completion[0]["content"]) for completion in completions]
    if log_extra is not None:
        log_extra("solution", list(solution))
        log_extra("answer_parsed", [_final(text) or "[unparseable]" for text in texts])
    return [_is_right(text, wanted) for text, wanted in zip(texts, solution, strict=True)]


def reasoning_accuracy_reward(
    completions: Completions, solution: Sequence[str], reasoning_delimiters: Sequence[str] | None = None,
    log_extra: Callable[[str, list[Any]], None] | None = None, **kwargs: Any,
) -> list[float | None]:
    """The same of what stands behind the reasoning; 0 where that does not end."""
    ends = ["</think>"] if reasoning_delimiters is None else list(reasoning_delimiters)
    answers = [_behind(str(completion[0]["content"]), ends) for completion in completions]
    scores = [0.0 if text is None else _is_right(text, wanted) for text, wanted in zip(answers, solution, strict=True)]
    if log_extra is not None:
        log_extra("solution", list(solution))
        log_extra("answer_parsed", ["[incomplete reasoning]" if text is None else _final(text) or "[unparseable]" for text in answers])
    return scores


def think_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """1 for a reasoning between `<think>` and `</think>`, once and at the beginning."""
    return [1.0 if _THOUGHT.match(str(completion[0]["content"])) else 0.0 for completion in completions]


def get_soft_overlong_punishment(max_completion_len: int, soft_punish_cache: int) -> Callable[..., list[float]]:
    """DAPO's equation 13 (arXiv 2503.14476): 0, then down to -1 within the last `soft_punish_cache` tokens."""
    free = max_completion_len - soft_punish_cache

    def soft_overlong_punishment_reward(completion_ids: Sequence[Sequence[int]], **kwargs: Any) -> list[float]:
        return [0.0 if len(ids) <= free else -1.0 if len(ids) > max_completion_len else (free - len(ids)) / soft_punish_cache
                for ids in completion_ids]

    return soft_overlong_punishment_reward


def get_repetition_penalty_reward(ngram_size: int = 3, max_penalty: float = -1.0) -> Callable[..., list[float]]:
    """The share of n-grams of tokens that are repetitions, times `max_penalty` (arXiv 2502.03373, C.2)."""
    if max_penalty > 0:
        raise ConfigError(f"max_penalty must not be positive, but it is {max_penalty}.")

    def repetition_penalty_reward(completion_ids: Sequence[Sequence[int]], **kwargs: Any) -> list[float]:
        return [_repeated(ids, ngram_size) * max_penalty + 0.0 for ids in completion_ids]

    return repetition_penalty_reward


def get_cosine_scaled_reward(
    max_len: int, min_value_wrong: float = -1.0, max_value_wrong: float = -0.5, min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
) -> Callable[..., list[float | None]]:
    """Right answers are worth less the longer they are, wrong ones cost less (arXiv 2502.03373, C.1)."""

    def cosine_scaled_reward(
        completions: Completions, solution: Sequence[str], completion_ids: Sequence[Sequence[int]], **kwargs: Any
    ) -> list[float | None]:
        return [
            None if right is None
            else _along(len(ids) / max_len, min_value_correct, max_value_correct) if right
            else _along(len(ids) / max_len, max_value_wrong, min_value_wrong)
            for right, ids in zip(accuracy_reward(completions, solution), completion_ids, strict=True)
        ]

    return cosine_scaled_reward


def _is_right(text: str, solution: str) -> float | None:
    verify, answer = resolve_verifier("math"), _final(text)
    wanted = _final(solution) or solution
    try:
        verify(wanted, wanted)
    except RewardError:
        return None
    return 1.0 if answer is not None and verify(answer, wanted) is Verdict.RIGHT else 0.0


def _final(text: str) -> str | None:
    """What is in the last box, or else in the last piece of LaTeX."""
    opening = text.rfind("\\boxed{")
    if opening >= 0:
        return _closed(text[opening + len("\\boxed{") :])
    found = _MATH.findall(text)
    return next(filter(None, found[-1])).strip() if found else None


def _closed(text: str) -> str | None:
    """Up to the bracket that closes what is open; None if none does."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place].strip()
    return None


def _behind(text: str, ends: Sequence[str]) -> str | None:
    end = next((end for end in ends if end in text), None)
    return None if end is None else text.split(end)[-1]


def _repeated(ids: Sequence[int], size: int) -> float:
    grams = [tuple(ids[place : place + size]) for place in range(len(ids) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _along(share: float, low: float, high: float) -> float:
    """From `high` at 0 to `low` at 1, along half a cosine."""
    return low + 0.5 * (high - low) * (1 + math.cos(min(share, 1.0) * math.pi))
