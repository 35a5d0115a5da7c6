"""The signal probe: what is counted, and the verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.checking.findings import Finding, Level, Signal, Trial
from heron.checking.signal import chosen, findings_of, probe
from heron.engine import SamplingParams, ScriptedEngine
from heron.environments import SingleTurn
from heron.models import Policy
from heron.rewards import Rubric, Verdict, verifiers
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts

RIGHT, WRONG = (f"<start_working_out>w<end_working_out><SOLUTION>{number}</SOLUTION>" for number in (2, 3))
MANY = Signal(
    prompts=16, samples=8, pass_at_1=0.3, pass_at_g=0.8, mixed=0.7, truncated=0.0, unreadable=0.1, failed=0, best=5.0, examples=(),
    seconds=1.0,
)


@pytest.fixture(scope="module")
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def right(completion: str) -> float:
    return 1.0 if ">2<" in completion else 0.0


def asked(
    policy: Policy, answers: Sequence[Sequence[str]], function: Any = right, most: int = 200, environment: Any = None
) -> Signal:
    """Prompt by prompt, what the model says."""
    prompts = [prompt(number, f"{number}: What is 1 + 1?", answer="2") for number in range(len(answers))]
    by_ids = {policy.render(row.messages): said for row, said in zip(prompts, answers, strict=True)}
    engine = ScriptedEngine(lambda ids, sibling: (*policy.encode(by_ids[ids][sibling]), policy.tokenizer.eos_token_id))
    rubric = Rubric([function], tags=TAGS, on_error="exclude")
    judge = environment or SingleTurn()
    collector = Collector(
        policy=policy, engine=engine, environment=judge, rubric=rubric,
        verdicts=Verdicts(environment=judge, verifier=verifiers["number"], tags=TAGS),
    )
    return probe(
        collector, prompts, SamplingParams(max_tokens=most), samples=len(answers[0]), seed=0, report=lambda phase, done, total: None,
    )


def test_what_is_counted(policy: Policy) -> None:
    """Prevents: pass@1 taken for pass@G, and shares of the wrong whole."""
    seen = asked(policy, [[RIGHT, WRONG, WRONG, "no idea"], [WRONG] * 4, [RIGHT] * 4, ["?", WRONG, WRONG, "a\x1b"]])
    assert (seen.pass_at_1, seen.pass_at_g, seen.mixed, seen.unreadable) == (5 / 16, 0.5, 0.25, 3 / 16)
    assert seen.examples == (("test:0", "no idea"), ("test:3", "?")) and seen.best == 1.0
    assert (seen.truncated, seen.failed) == (0.0, 0)


def test_cut_answers_and_failing_rewards_are_counted(policy: Policy) -> None:
    """Prevents: hours at reward 0 behind a limit that cuts everything; and a crash that the check did not foresee."""

    def fails(completion: str) -> float:
        raise KeyError("nothing there")

    seen = asked(policy, [[RIGHT, "2"], [RIGHT, "2"]], most=5)
    assert seen.truncated == 0.5
    seen = asked(policy, [[RIGHT, "2"]], fails)
    assert seen.failed == 2 and seen.mixed == 0.0
    assert levels(findings_of(seen, [], stops=True), "failed at 2 of 2") == [Level.ERROR]


def test_an_environment_judges_its_own_conversations(policy: Policy) -> None:
    """Prevents: a game that is won being called unreadable, since no answer stands between the tags."""

    class Game(SingleTurn):
        def verdict(self, row: Any, messages: Any) -> Verdict:
            return Verdict.RIGHT if "won" in messages[-1]["content"] else Verdict.WRONG

    seen = asked(policy, [["won", "lost"], ["lost", "lost"]], environment=Game())
    assert (seen.pass_at_1, seen.pass_at_g, seen.unreadable) == (0.25, 0.5, 0.0)


def test_prompts_are_spread_over_the_rows() -> None:
    """Prevents: asking only the easy rows in front of a sorted file."""
    rows = [prompt(number) for number in range(100)]
    assert [row.id for row in chosen(rows, 4)] == ["test:0", "test:25", "test:50", "test:75"] and chosen(rows[:2], 4) == rows[:2]


def levels(found: Sequence[Finding], words: str) -> list[Level]:
    return [finding.level for finding in found if words in finding.text]


def trial(kind: str, total: float) -> Trial:
    return Trial(row="r", kind=kind, text="", rewards={}, errors={}, total=total)


BOUNDS = [trial("wrong answer in the format", 0.5), trial("gold in the format", 4.5)]


@pytest.mark.parametrize(("change", "bounds", "words", "level"), [
    ({}, BOUNDS, "There is something to learn from", Level.NOTE),
    ({"pass_at_1": 0.0, "pass_at_g": 0.0, "mixed": 0.0}, BOUNDS, "all paid the same", Level.ERROR),
    ({"pass_at_1": 0.0, "pass_at_g": 0.0, "best": 1.0}, BOUNDS, "pass@8 is 0", Level.ERROR),
    ({"pass_at_1": 0.0, "pass_at_g": 0.0, "best": 3.5}, BOUNDS, "pass@8 is 0", Level.WARNING),
    ({"pass_at_1": 0.0, "pass_at_g": 0.0, "best": 3.5}, [], "pass@8 is 0", Level.ERROR),
    ({"pass_at_1": 1.0, "pass_at_g": 1.0, "mixed": 0.0}, BOUNDS, "nothing is left to learn", Level.ERROR),
    ({"pass_at_1": 0.97, "pass_at_g": 1.0, "mixed": 0.2}, BOUNDS, "little is left", Level.WARNING),
    ({"mixed": 0.05}, BOUNDS, "of the groups have answers that are paid differently", Level.WARNING),
    ({"pass_at_1": None, "pass_at_g": None, "unreadable": None}, [], "There is something to learn from", Level.NOTE),
    ({"truncated": 0.4}, BOUNDS, "are cut at", Level.WARNING),
    ({"unreadable": 0.6}, BOUNDS, "cannot be read", Level.WARNING),
])
def test_the_verdict_follows_from_what_was_seen(change: dict[str, Any], bounds: list[Trial], words: str, level: Level) -> None:
    """Prevents: a wasted run that was waved through, and a good one that was refused."""
    found = findings_of(replace(MANY, **change), bounds, stops=True)
    assert levels(found, words) == [level]
    assert any(each.level is Level.ERROR for each in found) is (level is Level.ERROR)


def test_a_refusal_says_what_to_do() -> None:
    """Prevents: a no without a way on."""
    (found,) = findings_of(replace(MANY, pass_at_1=0.0, pass_at_g=0.0, mixed=0.0), BOUNDS, stops=True)
    assert all(word in found.advice for word in ("RL cannot learn this yet", "easier rows", "warm-up", "longer limit"))
