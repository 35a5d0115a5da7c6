"""Scoring beside sampling: the same results, sooner, and errors that stop the sampler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.engine import SamplingParams, ScriptedEngine
from heron.environments import Retry, SingleTurn
from heron.errors import RewardError
from heron.models import Policy
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.rollout.scoring import BackgroundScoring
from heron.types import Rollout

PARAMS = SamplingParams(max_tokens=64)
ROWS = [prompt(number, "?" * (4 - number), answer="2") for number in range(4)]
"""The script below answers the later ones sooner."""


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def collector(policy: Policy, *functions: Callable[..., Any], overlap: bool = True, environment: Any = None) -> Collector:
    def script(ids: tuple[int, ...], sibling: int) -> tuple[int, ...]:
        return (*policy.encode("x" * (2 * len(ids) + sibling)), policy.tokenizer.eos_token_id)

    return Collector(
        policy=policy, engine=ScriptedEngine(script), environment=environment or SingleTurn(), rubric=Rubric(list(functions), tags=TAGS),
        overlap=overlap,
    )


def length(completion: str) -> float:
    return float(len(completion))


def spread(completions: list[Any], **_: Any) -> list[float]:
    """In batch form, and the same for every completion whatever else is in the batch."""
    return [len(completion[0]["content"]) / 7 for completion in completions]


@pytest.mark.parametrize("environment", [SingleTurn(), Retry(TAGS)])
def test_groups_are_those_without_overlap(policy: Policy, environment: Any) -> None:
    """Prevents: groups in the order in which they finished, rewards of another group, and siblings that are not compared."""
    made = collector(policy, length, spread, environment=environment)
    seen: list[tuple[str, int, int]] = []
    groups = made.collect(ROWS, PARAMS, siblings=3, seed=0, report=lambda *state: seen.append(state))
    assert groups == collector(policy, length, spread, overlap=False, environment=environment).collect(ROWS, PARAMS, siblings=3, seed=0)
    assert [group.prompt for group in groups] == ROWS and all(group.has_signal for group in groups)
    assert {phase for phase, _, _ in seen} == {"sample", "score"}


def test_a_group_is_scored_as_soon_as_it_is_complete(policy: Policy) -> None:
    """Prevents: an overlap in name only. The last prompt's answers are the shortest; its reward is asked for while others are sampled."""
    scored, tokens = threading.Event(), []

    def told(completion: str) -> float:
        scored.set()
        return 0.0

    def report(phase: str, done: int, total: int) -> None:
        tokens.append(done)
        if tokens.count(2) > 1:  # they have been handed out by now
            assert scored.wait(5), "two siblings of four prompts have finished, and nobody has scored them"

    collector(policy, told).collect(ROWS, PARAMS, siblings=2, seed=0, report=report)
    assert tokens.index(2) < len(tokens) - 5, "the test needs tokens that are sampled after that"


def test_how_often_functions_are_called(policy: Policy) -> None:
    """Without overlap a batch function sees the whole step, as with TRL; with it, each group as it finishes."""
    calls: list[int] = []

    def counting(completions: list[Any], **_: Any) -> list[float]:
        calls.append(len(completions))
        return [float(len(calls))] * len(completions)

    collector(policy, counting, overlap=False).collect(ROWS, PARAMS, siblings=2, seed=0)
    assert calls == [8]
    calls.clear()
    groups = collector(policy, counting).collect(ROWS, PARAMS, siblings=2, seed=0)
    assert calls == [2] * 4
    assert [group.rollouts[0].reward for group in groups] == [4.0, 3.0, 2.0, 1.0], "in the order in which they finished"


@pytest.mark.parametrize("overlap", [True, False])
def test_a_reward_that_raises(policy: Policy, overlap: bool) -> None:
    """The same error either way; with overlap, before the rest is sampled."""

    def broken(completion: str) -> float:
        raise KeyError("oops")

    told: list[int] = []

    def report(phase: str, done: int, total: int) -> None:
        told.append(done)
        time.sleep(0.01)

    with pytest.raises(RewardError, match=r"broken.*oops.*row test:") as caught:
        collector(policy, broken, overlap=overlap).collect(ROWS, PARAMS, siblings=2, seed=0, report=report)
    assert isinstance(caught.value.__cause__, KeyError)
    assert (max(told) < 8) == overlap


def test_a_sampler_that_stops_does_not_wait(policy: Policy) -> None:
    """Prevents: a Ctrl-C that hangs until a slow reward returns, and rewards that go on to be asked for afterwards."""
    begun_scoring, gate, asked = threading.Event(), threading.Event(), []

    def slow(completion: str) -> float:
        asked.append(completion)
        begun_scoring.set()
        gate.wait(20)
        return 0.0

    def report(phase: str, done: int, total: int) -> None:
        if done == 6 and begun_scoring.wait(5):
            raise KeyboardInterrupt

    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        collector(policy, slow).collect(ROWS, PARAMS, siblings=2, seed=0, report=report)
    assert time.perf_counter() - begun < 5
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "heron-rewards"]
    assert thread.daemon, "Python would wait for it at its end"
    gate.set()
    thread.join(5)
    assert not thread.is_alive() and len(asked) == 2, "the group that was being scored, and no other"


def test_async_rewards_in_the_thread(policy: Policy) -> None:
    async def later(completion: str) -> float:
        return float(len(completion))

    groups = collector(policy, later).collect(ROWS, PARAMS, siblings=2, seed=0)
    assert all(rollout.reward == len(rollout.text) for group in groups for rollout in group.rollouts)


class Watch:
    """A clock that remembers."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.overlapped: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.phases[name] = time.perf_counter() - begun

    def beside(self, name: str, seconds: float) -> None:
        self.overlapped[name] = seconds


def test_what_was_waited_for_and_what_was_not(policy: Policy) -> None:
    """Prevents: rewards that seem to cost nothing, and seconds that are counted twice."""

    def slow(completions: list[Any], **_: Any) -> list[float]:
        time.sleep(0.05)
        return [0.0] * len(completions)

    watch = Watch()
    made = collector(policy, slow)
    made.collect(ROWS, PARAMS, siblings=2, seed=0, clock=watch, report=lambda phase, done, total: time.sleep(0.002 * (done > 0)))
    assert watch.phases["score"] + watch.overlapped["score"] >= 0.2
    assert watch.phases["score"] >= 0.04, "the last group is complete when sampling ends"
    assert watch.overlapped["score"] <= watch.phases["sample"]
    alone = Watch()
    replace(made, overlap=False).collect(ROWS, PARAMS, siblings=2, seed=0, clock=alone)
    assert alone.phases["score"] >= 0.05 and alone.overlapped == {}


def test_results_wait_for_the_thread() -> None:
    def score(rollouts: Sequence[Rollout]) -> list[Rollout]:
        time.sleep(0.01)
        return list(rollouts)

    row = Rollout(prompt=ROWS[0], turns=(), text="")
    with BackgroundScoring(score) as scoring:
        for number in (2, 0, 1):
            scoring.take(number, [replace(row, text=str(number))])
        assert [rollout.text for (rollout,) in scoring.results()] == ["0", "1", "2"]
