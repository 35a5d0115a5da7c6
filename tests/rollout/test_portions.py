"""Completions in portions: what is drawn does not change, what was said is kept, and every group ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.engine import HFEngine, NativeEngine, Request, SamplingParams, ScriptedEngine
from heron.environments import SingleTurn
from heron.models import Policy
from heron.rewards import Rubric
from heron.rollout import Collector, InFlight
from heron.rollout.partial import begin, tokens_of
from heron.types import FinishReason, Group

ROWS = [prompt(number, "?" * (number + 1)) for number in range(3)]
MOST = 10


def length(completion: str) -> float:
    return float(len(completion))


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    policy = load_tiny(tiny_folder("qwen3"))
    policy.end_ids = frozenset(range(0, 265, 8))
    return policy


def rounds(made: Collector, flights: list[InFlight], *, tokens: int) -> list[tuple[list[Group], list[InFlight]]]:
    """Every step until nothing is in flight."""
    steps = []
    while flights:
        groups, flights = made.collect_portions(
            flights, [ROWS[flight.row] for flight in flights], SamplingParams(max_tokens=MOST, temperature=0.9), tokens=tokens,
        )
        steps.append((groups, flights))
        made.policy.version += 1
        assert len(steps) <= -(-MOST // tokens), "a completion needs no more steps than that"
    return steps


@pytest.mark.parametrize("tokens", [1, 3, 4, 9])
def test_portions_make_the_same_completions(policy: Policy, tokens: int) -> None:
    """Under one and the same weights: prevents tokens that are drawn with other random numbers after a pause, or said twice."""
    made = Collector(policy=policy, engine=HFEngine(policy), environment=SingleTurn(), rubric=Rubric([length], tags=TAGS))
    whole = made.collect(ROWS, SamplingParams(max_tokens=MOST, temperature=0.9), siblings=4, seed=3)
    steps = rounds(made, begin(range(3), siblings=4, seed=3), tokens=tokens)
    by_prompt = {group.prompt.id: group for groups, _ in steps for group in groups}
    assert len(by_prompt) == 3 and sum(len(groups) for groups, _ in steps) == 3
    reasons = set()
    for group in whole:
        for rollout, again in zip(group.rollouts, by_prompt[group.prompt.id].rollouts, strict=True):
            (turn,), (turn_again,) = rollout.turns, again.turns
            reasons.add(turn.completion.finish_reason)
            assert turn_again.prompt_ids == turn.prompt_ids
            assert turn_again.completion.token_ids == turn.completion.token_ids
            assert turn_again.completion.finish_reason is turn.completion.finish_reason
            assert turn_again.completion.logprobs == pytest.approx(turn.completion.logprobs, abs=1e-5)
            assert (again.text, again.reward) == (rollout.text, rollout.reward)
            assert again.advantage == pytest.approx(rollout.advantage)
            assert [tokens for _, tokens in turn_again.completion.versions[:-1]] == [tokens] * (len(turn_again.completion.versions) - 1)
    assert len(reasons) == 2, "some end by themselves, some are cut off"


def test_ages_are_mixed_and_finished_siblings_wait(policy: Policy) -> None:
    """Prevents: a young completion that gets the old one's limit, a finished sibling that is asked again, or one that is lost."""
    engine = ScriptedEngine(lambda ids, sibling: range(9 if sibling else 2))
    made = Collector(policy=policy, engine=engine, environment=SingleTurn(), rubric=Rubric([length], tags=TAGS))
    params = SamplingParams(max_tokens=MOST)
    groups, carried = made.collect_portions(begin([0], siblings=3, seed=0), ROWS[:1], params, tokens=4)
    assert groups == [] and [flight.open for flight in carried] == [(1, 2)]
    assert tokens_of(carried) == 2 + 4 + 4
    engine.version, engine.script = 1, lambda ids, sibling: range(9)
    engine.requests.clear()
    both = [*carried, *begin([1], siblings=3, seed=1)]
    told: list[int] = []
    groups, carried = made.collect_portions(both, ROWS[:2], params, tokens=4, report=lambda phase, done, total: told.append(total))
    assert [len(request.seeds) for request in engine.requests] == [2, 3]
    assert engine.requests[0].seeds == both[0].seeds[1:]
    assert groups == [] and [tokens_of([flight]) for flight in carried] == [2 + 8 + 8, 4 + 4 + 4]
    assert carried[0].said[1] is not None and carried[0].said[1].versions == ((0, 4), (1, 4))


def test_a_group_in_flight_survives_json(policy: Policy) -> None:
    """Prevents: a resumed run whose carried log-probs, versions or reasons are not those that were saved."""
    made = Collector(policy=policy, engine=HFEngine(policy), environment=SingleTurn(), rubric=Rubric([length], tags=TAGS))
    _, carried = made.collect_portions(begin([2, 1], siblings=3, seed=0), ROWS[2:0:-1], SamplingParams(max_tokens=MOST), tokens=3)
    assert carried
    flights = [*carried, *begin([0], siblings=2, seed=9)]
    assert [InFlight.of_dict(json.loads(json.dumps(flight.as_dict()))) for flight in flights] == flights


def test_portions_of_all_ages_run_in_one_batch(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: as many forward passes as there are ages, each with a fraction of the rows."""
    policy = load_tiny(tiny_folder("qwen3"))
    policy.end_ids = frozenset()
    engine = NativeEngine(policy)
    said = [
        engine.generate([Request(prompt_ids=(3, 4), seeds=(seed,))], SamplingParams(max_tokens=40, pause_after=age))[0][0]
        for seed, age in enumerate((1, 5, 9))
    ]
    assert [(len(one.token_ids), one.finish_reason) for one in said] == [(age, FinishReason.PAUSED) for age in (1, 5, 9)]
    request = Request(prompt_ids=(3, 4), seeds=(0, 1, 2), said=tuple(said))
    passes: list[int] = []
    stream = engine.stream([request], SamplingParams(max_tokens=40, pause_after=6), on_token=lambda done, _: passes.append(done))
    longer = {one.sibling: one.completion for one in stream}
    assert len(passes) <= 7
    whole = engine.generate([Request(prompt_ids=(3, 4), seeds=(0, 1, 2))], SamplingParams(max_tokens=15))[0]
    for sibling, age in enumerate((1, 5, 9)):
        assert longer[sibling].token_ids == whole[sibling].token_ids[: age + 6]
        assert longer[sibling].finish_reason is FinishReason.PAUSED
