"""Verifiers and the rewards made of them."""

import pytest

from heron.errors import RewardError
from heron.rewards import Verdict, reward, verdict, verifiers
from heron.types import Tags


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("18", "18", Verdict.RIGHT),
        ("$18.00", "18", Verdict.RIGHT),
        ("18 eggs", "18", Verdict.RIGHT),
        ("1,072", "... #### 1072", Verdict.RIGHT),
        ("3/4", "0.75", Verdict.RIGHT),
        ("-18", "18", Verdict.WRONG),
        ("180", "18", Verdict.WRONG),
        ("0.33", "1/3", Verdict.WRONG),
        ("17 or 18", "18", Verdict.UNREADABLE),
        ("9 * 2", "18", Verdict.UNREADABLE),
        ("36/2", "18", Verdict.UNREADABLE),
        ("", "18", Verdict.UNREADABLE),
    ],
)
def test_number_verifier_table(answer: str, reference: str, expected: Verdict) -> None:
    """Prevents: string comparison of numbers, and expressions that earn full marks."""
    assert verifiers["number"](answer, reference) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("New  York\n", Verdict.RIGHT),
        ("new york", Verdict.WRONG),
        ("not New York", Verdict.WRONG),
        ("New York, or Boston", Verdict.WRONG),
        (" ", Verdict.UNREADABLE),
    ],
)
def test_exact_verifier_table(answer: str, expected: Verdict) -> None:
    """Prevents: substring matches."""
    assert verifiers["exact"](answer, "New York") is expected


def test_unreadable_reference_raises_instead_of_judging() -> None:
    """Prevents: a broken row that marks every answer wrong."""
    with pytest.raises(RewardError, match="no number"):
        verifiers["number"]("18", "eighteen")


def test_reward_pays_each_verdict_its_own_score(tags: Tags) -> None:
    """Prevents: wrong and unreadable confused; a reference column of ints that breaks a text comparison."""
    paid = reward(verifiers["exact"], right=1.0, wrong=0.0, unreadable=-1.0, name="city")
    assert paid.__name__ == "city"
    assert [paid(text, 7, tags) for text in ("<answer>7</answer>", "<answer>8</answer>", "7")] == [1.0, 0.0, -1.0]
    assert paid("7</answer>", 7, tags, "<answer>") == 1.0


def test_verdict_of_a_rollout(tags: Tags, make_rollout) -> None:
    """Prevents: evaluation that reads other text than the rewards; a missing reference counted as wrong."""
    number = verifiers["number"]
    assert verdict(number, make_rollout("<answer>5</answer>", answer=5), tags) is Verdict.RIGHT
    assert verdict(number, make_rollout("5</answer>", answer=5, prefilled="<answer>"), tags) is Verdict.RIGHT
    assert verdict(number, make_rollout("5", answer=5), tags) is Verdict.UNREADABLE
    with pytest.raises(RewardError, match=r"rows\.jsonl:1 has no answer"):
        verdict(number, make_rollout("<answer>5</answer>"), tags)
