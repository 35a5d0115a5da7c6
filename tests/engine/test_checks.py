"""What every engine refuses, said so that it helps whoever asked: in a run, in Python, over HTTP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from heron.engine import Request, SamplingParams
from heron.engine.checks import check_requests
from heron.errors import EngineError

POLICY: Any = SimpleNamespace(context_length=20, vocabulary_size=260)


def check(prompt_ids: Any, *, max_tokens: int = 4) -> None:
    fine = Request(prompt_ids=(1, 2), seeds=(0,))
    check_requests([fine, Request(prompt_ids=prompt_ids, seeds=(0,))], SamplingParams(max_tokens=max_tokens), POLICY)


@pytest.mark.parametrize(
    ("prompt_ids", "said"),
    [
        ((3, -1), "token -1, but tokens are numbered from 0"),
        ((3, 260), "token 260.*260 entries"),
        ((3, 2.0), "of type int.*float"),
        ((3, "4"), "of type int.*str"),
        ((3, None), "of type int.*NoneType"),
        ((3, True), "of type int.*bool"),
        ((), "no prompt tokens"),
    ],
)
def test_tokens_that_are_none(prompt_ids: Any, said: str) -> None:
    """Prevents: a last row of the embedding that is read for -1, and errors from deep inside a model."""
    with pytest.raises(EngineError, match=said):
        check(prompt_ids)


def test_an_answer_that_does_not_fit() -> None:
    """Prevents: advice to lower a setting that somebody outside a run does not have."""
    check((1,) * 16)
    with pytest.raises(EngineError, match=r"17 tokens and up to 4 new .*context of 20\. Shorten the prompt, or ask for fewer new tokens"):
        check((1,) * 17)
    check((1,) * 19, max_tokens=1)


@pytest.mark.parametrize("length", [20, 21])
def test_a_prompt_that_does_not_fit(length: int) -> None:
    """Prevents: advice to ask for fewer new tokens where not even one has room."""
    with pytest.raises(EngineError, match=rf"{length} tokens leaves no room .*context of 20\. Shorten the prompt\.$"):
        check((1,) * length, max_tokens=1)
