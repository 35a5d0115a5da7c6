"""Rows and rollouts in one line each."""

from collections.abc import Callable
from typing import Any

import pytest

from heron.types import Completion, FinishReason, Prompt, Rollout, Tags, Turn


@pytest.fixture
def tags() -> Tags:
    """The tags of the recipe gsm8k."""
    return Tags(
        reasoning_start="<reasoning>", reasoning_end="</reasoning>", solution_start="<answer>", solution_end="</answer>"
    )


@pytest.fixture
def make_rollout() -> Callable[..., Rollout]:
    def make(text: str = "5", *, row: str = "rows.jsonl:1", plain: bool = False, prefilled: str = "", **columns: Any) -> Rollout:
        messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"})
        prompt = Prompt(id=row, messages=messages[1:] if plain else messages, columns=columns, plain=plain)
        completion = Completion(
            token_ids=(7, 8), logprobs=(-0.1, -0.2), finish_reason=FinishReason.STOP, policy_version=0
        )
        turns = (Turn(prompt_ids=(1, 2), completion=completion),)
        return Rollout(prompt=prompt, turns=turns, text=text, prefilled=prefilled)

    return make
