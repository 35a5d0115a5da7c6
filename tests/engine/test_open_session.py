"""Requests that join and leave at any step say what they would say alone, and give back what they held."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tinymodels import load_tiny, random_ids

from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native import sampler
from heron.engine.native.open import OpenSession
from heron.engine.structure import Grammar, Structure
from heron.errors import ConfigError, EngineError
from heron.models import Policy
from heron.types import FinishReason

KINDS = ("qwen3", "mistral-window")


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder(request.param))


def asked(count: int, seed: int = 0) -> list[tuple[Request, SamplingParams]]:
    """Ragged requests that each draw in their own way; some are greedy, some have siblings."""
    draw = random.Random(seed)
    ways = [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 5, "repetition_penalty": 1.3}]
    return [
        (
            Request(prompt_ids=random_ids(draw, draw.randrange(1, 70)), seeds=tuple(range(number, number + draw.choice((1, 1, 3))))),
            SamplingParams(max_tokens=draw.randrange(1, 60), ignore_end=draw.random() < 0.5, **ways[number % len(ways)]),  # type: ignore[arg-type]
        )
        for number in range(count)
    ]


def run(session: OpenSession) -> None:
    while not session.is_idle:
        session.step()


def test_what_is_in_flight_changes_no_token(policy: Policy) -> None:
    """Prevents: one client's temperature, length or random numbers used for another's answer, and rows mixed up as others come and go."""
    session = NativeEngine(policy, max_concurrent=6).open()
    together, draw = [], random.Random(1)
    for request, params in asked(16):
        together.append(session.add(request, params))
        for _ in range(draw.randrange(8)):
            session.step()
    run(session)
    for (request, params), said in zip(asked(16), together, strict=True):
        (alone,) = NativeEngine(policy).generate([request], params)
        assert [tuple(one.token_ids) for one in said] == [one.token_ids for one in alone]
        assert [one.finish_reason for one in said] == [one.finish_reason for one in alone]
        assert [one.logprobs for one in said] == [pytest.approx(one.logprobs, abs=1e-5) for one in alone]
    assert session.scheduler.pages.is_idle and not session.samplers._how


def test_tokens_can_be_read_as_they_are_said(policy: Policy) -> None:
    """Prevents: a stream that says everything at the end."""
    session = NativeEngine(policy).open()
    (one,) = session.add(Request(prompt_ids=(1, 2, 3), seeds=(0,)), SamplingParams(max_tokens=5, ignore_end=True))
    lengths = []
    while not session.is_idle:
        assert session.step() == [one]
        lengths.append(len(one.token_ids))
    assert lengths == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_who_leaves_gives_back_and_disturbs_nobody(policy: Policy, steps: int) -> None:
    """Prevents: pages that nobody reads and nobody gets, and a sibling or neighbour that is dropped along."""
    session = NativeEngine(policy, max_concurrent=3).open()
    params = SamplingParams(max_tokens=20, ignore_end=True)
    stay = session.add(Request(prompt_ids=(5,) * 40, seeds=(0,)), params)
    siblings = session.add(Request(prompt_ids=(6,) * 40, seeds=(1, 2)), params)
    waiting = session.add(Request(prompt_ids=(7,) * 40, seeds=(3,)), params)
    for _ in range(steps):
        session.step()
    session.drop([siblings[0], *waiting])
    run(session)
    assert siblings[0].finish_reason is waiting[0].finish_reason is None and len(siblings[0].token_ids) <= steps
    assert session.scheduler.pages.is_idle and not session.samplers._how
    for one, seed, token in ((stay[0], 0, 5), (siblings[1], 2, 6)):
        ((alone,),) = NativeEngine(policy).generate([Request(prompt_ids=(token,) * 40, seeds=(seed,))], params)
        assert tuple(one.token_ids) == alone.token_ids


def test_a_full_cache_makes_rows_wait_not_fail(policy: Policy) -> None:
    """Prevents: requests that are lost, or other tokens, where pages run out."""
    engine = NativeEngine(policy, page_size=4)
    bytes_per_page = 4 * 2 * 2 * 2 * 8 * 4  # tokens, layers, keys and values, heads, width, bytes
    session = NativeEngine(policy, page_size=4, cache_bytes=20 * bytes_per_page).open()
    assert session.scheduler.pages.count == 20
    requests = [(Request(prompt_ids=(number,) * 9, seeds=(number,)), SamplingParams(max_tokens=40, ignore_end=True)) for number in range(5)]
    together = [session.add(request, params) for request, params in requests]
    run(session)
    assert session.scheduler.preemptions > 0
    for (request, params), said in zip(requests, together, strict=True):
        assert tuple(said[0].token_ids) == engine.generate([request], params)[0][0].token_ids
    with pytest.raises(EngineError, match="do not fit into the cache of 80 tokens"):
        session.add(Request(prompt_ids=(1,) * 60, seeds=(0,)), SamplingParams(max_tokens=30))


@pytest.mark.parametrize("length", [1, 31, 32, 33, 480, 501, 511])
def test_one_completion_may_fill_the_context(policy: Policy, length: int) -> None:
    """Prevents: a last answer that the context has room for, refused because prompt and answer were each rounded up to pages."""
    session = NativeEngine(policy, max_concurrent=1).open()
    assert policy.context_length == 512
    (one,) = session.add(Request(prompt_ids=(5,) * length, seeds=(0,)), SamplingParams(max_tokens=512 - length, ignore_end=True))
    while not session.is_idle and len(one.token_ids) < 512 - length:
        session.step()
    assert len(one.token_ids) == 512 - length and session.scheduler.preemptions == 0


def test_stops_and_structures_are_each_requests_own(policy: Policy) -> None:
    """Prevents: a stop string or a grammar that holds for the neighbour, too, or is forgotten when neighbours leave."""
    session = NativeEngine(policy).open()
    digits = session.add(Request(prompt_ids=(1, 2), seeds=(0,)), SamplingParams(max_tokens=30, structure=Structure(regex="[0-9]{12}")))
    free = session.add(Request(prompt_ids=(1, 2), seeds=(0,)), SamplingParams(max_tokens=30, ignore_end=True))
    alone = NativeEngine(policy).generate([Request(prompt_ids=(1, 2), seeds=(0,))], SamplingParams(max_tokens=30, ignore_end=True))[0][0]
    stop = policy.decode(alone.token_ids[6:7])
    short = session.add(Request(prompt_ids=(1, 2), seeds=(0,)), SamplingParams(max_tokens=30, ignore_end=True, stop=(stop,)))
    run(session)
    assert policy.decode(digits[0].token_ids).isdigit() and digits[0].finish_reason is FinishReason.STOP
    assert tuple(free[0].token_ids) == alone.token_ids
    assert len(short[0].token_ids) <= 7 and short[0].finish_reason is FinishReason.STOP


def test_a_structure_that_cannot_be_followed_stops_nobody_else(policy: Policy) -> None:
    """Prevents: one client's schema that ends the answers of all; and a call that goes on with text that does not match."""
    endless = SamplingParams(max_tokens=30, structure=Structure.of_schema({"$ref": "#"}))
    costly = SamplingParams(max_tokens=30, structure=Structure.of_schema({"type": "string", "pattern": "^(a?){300}a{300}$"}))
    free, request = SamplingParams(max_tokens=30, ignore_end=True), Request(prompt_ids=(1, 2), seeds=(0, 1))
    session = NativeEngine(policy).open()
    said = {params: session.add(request, params) for params in (endless, free, costly)}
    run(session)
    assert all("ake the regex or the schema simpler" in str(one.wrong) for params in (endless, costly) for one in said[params])
    assert all(one.finish_reason is None and len(str(one.wrong)) < 400 for params in (endless, costly) for one in said[params])
    alone = NativeEngine(policy).generate([request], free)[0]
    assert [tuple(one.token_ids) for one in said[free]] == [one.token_ids for one in alone]
    assert session.scheduler.pages.is_idle and not session.samplers._how
    for params in (endless, costly):
        with pytest.raises(EngineError, match="ake the regex or the schema simpler"):
            NativeEngine(policy).generate([request], params)


def test_many_ways_to_draw_are_each_made_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: grammars that are compiled anew in every step, where more clients bring one of their own than are remembered."""
    made: list[str] = []
    monkeypatch.setattr(sampler, "Grammar", lambda structure, policy: made.append(structure.regex) or Grammar(structure, policy))
    session = NativeEngine(policy).open()
    wanted = [f"[{digit}]{{{length}}}" for digit in range(10) for length in (2, 3, 4, 5)]
    said = [session.add(Request(prompt_ids=(1,), seeds=(0,)), SamplingParams(max_tokens=9, structure=Structure(regex=regex)))
            for regex in wanted]
    run(session)
    assert made == wanted and all(re.fullmatch(regex, policy.decode(one.token_ids)) for regex, (one,) in zip(wanted, said, strict=True))


def test_what_cannot_be_sampled_is_refused_and_leaves_no_trace(policy: Policy) -> None:
    """Prevents: a bad request that stops the others."""
    session = NativeEngine(policy).open()
    with pytest.raises(EngineError, match="context"):
        session.add(Request(prompt_ids=(1,), seeds=(0,)), SamplingParams(max_tokens=10_000))
    with pytest.raises(ConfigError, match="cannot be used"):
        session.add(Request(prompt_ids=(1,), seeds=(0,)), SamplingParams(max_tokens=5, structure=Structure(regex="(")))
    assert session.is_idle and not session.samplers._how
    policy.version += 1
    with pytest.raises(EngineError, match="weights have changed"):
        session.step()
