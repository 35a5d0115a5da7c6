"""Held-out measurement: verdicts, totals, the same questions asked the same way each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.engine import NativeEngine, ScriptedEngine
from heron.environments import SingleTurn
from heron.models import Policy
from heron.rewards import Rubric, verifiers
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts
from heron.training.evaluation import Evaluator
from heron.training.statistics import wilson
from heron.types import Prompt

RIGHT = "<start_working_out>x<end_working_out><SOLUTION>2</SOLUTION>"


def length(completion: str) -> float:
    return float(len(completion))


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def evaluator(policy: Policy, rows: list[Prompt], script: Callable[[str, int], str] | None, *, samples: int = 4) -> Evaluator:
    def said(ids: tuple[int, ...], sibling: int) -> tuple[int, ...]:
        assert script is not None
        return (*policy.encode(script(policy.decode(ids), sibling)), policy.tokenizer.eos_token_id)

    engine = NativeEngine(policy) if script is None else ScriptedEngine(said)
    collector = Collector(policy=policy, engine=engine, environment=SingleTurn(), rubric=Rubric([length], tags=TAGS))
    return Evaluator(
        collector=collector, prompts=tuple(rows), samples=samples, temperature=1.0, max_tokens=80, seed=3,
        verdicts=Verdicts(environment=collector.environment, verifier=verifiers["number"], tags=TAGS),
    )


ROWS = [prompt(0, "easy", answer="2"), prompt(1, "hard", answer="2"), prompt(2, "odd", answer="2"), prompt(3, "free")]


def script(question: str, sibling: int) -> str:
    if "easy" in question or ("hard" in question and sibling % 2):
        return RIGHT
    return RIGHT.replace(">2<", ">3<") if "hard" in question else "no tags at all"


def test_totals_by_hand(policy: Policy) -> None:
    """Prevents: unreadable answers counted as right or left out, and rows without a reference counted as wrong."""
    rows, totals = evaluator(policy, ROWS, script).measure()
    assert [row["verdict"] for row in rows] == ["right", "wrong", "unreadable", None]
    assert [row["sample_verdicts"] for row in rows] == [["right"] * 4, ["wrong", "right"] * 2, ["unreadable"] * 4, [None] * 4]
    assert totals["accuracy"] == pytest.approx(1 / 3)
    assert (totals["accuracy_low"], totals["accuracy_high"]) == wilson(1, 3)
    assert totals["pass_at_1"] == pytest.approx(0.5)
    assert totals["pass_at_1_low"] < 0.5 < totals["pass_at_1_high"]
    assert totals["unreadable"] == pytest.approx(1 / 3)
    assert (totals["problems"], totals["samples"]) == (4, 4)
    assert totals["mean_reward"] == pytest.approx(fmean(row["reward"] for row in rows))
    assert totals["truncated"] == 0.0


def test_greedy_only(policy: Policy) -> None:
    _, totals = evaluator(policy, ROWS, script, samples=0).measure()
    assert "accuracy" in totals
    assert "pass_at_1" not in totals


def test_rows_without_references_are_measured_without_accuracy(policy: Policy) -> None:
    """Prompt-only data has rewards and lengths, but nothing to be right about."""
    _, totals = evaluator(policy, [ROWS[3]], script).measure()
    assert "accuracy" not in totals
    assert totals["mean_reward"] > 0


def test_truncated_answers_are_counted(policy: Policy) -> None:
    rows, totals = evaluator(policy, [ROWS[0]], lambda question, sibling: "x" * 200).measure()
    assert totals["truncated"] == 1.0
    assert rows[0]["length"] == 80


def test_the_same_policy_measures_the_same(policy: Policy) -> None:
    """Prevents: a before and an after that differ by the luck of the draw."""
    measured = evaluator(policy, ROWS, None)
    first, again = measured.measure(), measured.measure()
    assert first == again
    assert first[0][0]["sample_texts"][0] != first[0][0]["sample_texts"][1], "samples are sampled"


def test_measuring_leaves_the_policy_alone(policy: Policy) -> None:
    before = [weight.detach().clone() for weight in policy.model.parameters()]
    evaluator(policy, ROWS, None).measure()
    assert all((a == b).all() for a, b in zip(before, policy.model.parameters(), strict=True))
    assert policy.version == 0
