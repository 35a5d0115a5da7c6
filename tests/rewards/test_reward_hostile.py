"""Texts that try to be called right: no verifier says so, none raises, none takes long."""

import time

import pytest

from benchmarks.hostile_answers import FAMILIES, Case, cases, judged
from heron.rewards import Verdict, answer_text, verifiers
from heron.types import Tags


@pytest.fixture(scope="module")
def ten_thousand() -> list[Case]:
    return list(cases(10_000))


@pytest.mark.parametrize("name", ["exact", "number"])
def test_ten_thousand_texts_are_never_right(name: str, ten_thousand: list[Case]) -> None:
    """Prevents: a reward for a trick."""
    outcome = judged(verifiers[name], ten_thousand)
    assert outcome.broken == () and outcome.verdicts.keys() <= {"wrong", "unreadable"}
    assert sum(value > 0.05 for value in outcome.seconds) <= 2  # a busy machine's, at most


def test_mathematics_is_never_fooled_either() -> None:
    """Prevents: the same for math-verify, which alone is fooled by several of these."""
    pytest.importorskip("math_verify")
    outcome = judged(verifiers["math"], list(cases(2 * len(FAMILIES), seed=1)), time.perf_counter)
    assert outcome.broken == () and outcome.verdicts.keys() <= {"wrong", "unreadable"}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_one(family: str) -> None:
    """Guards the tests above: a right answer would be found, were it there."""
    case = next(case for case in cases(len(FAMILIES)) if case.family == family)
    assert verifiers["number"](case.reference, case.reference) is Verdict.RIGHT


def test_an_answer_is_not_given_twice_around_more_reasoning() -> None:
    """Prevents: two answers, of which the last one counts, by closing the reasoning a second time."""
    tags = Tags(reasoning_start="<think>", reasoning_end="</think>", solution_start="<answer>", solution_end="</answer>")
    twice = "<think>a</think><answer>1</answer><think>b</think><answer>2</answer>"
    assert answer_text(twice, tags) is None
    assert answer_text("<think>a</think></think><answer>2</answer>", tags) == "2"
    assert answer_text("<think><answer>1</answer></think><answer>2</answer>", tags) == "2"
