"""Made-up answers: rewards that are in order pass, and each way of being out of order is a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.checking import trials
from heron.checking.findings import Finding, Level, Trial
from heron.checking.lengths import marked, measure, percentiles
from heron.environments import SingleTurn
from heron.models import Policy
from heron.rewards import answer_text, resolve

PROMPTS = [prompt(number, f"What is {number} + {number}?", answer=str(2 * number)) for number in range(1, 9)]


@pytest.fixture(scope="module")
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def tried(policy: Policy, *functions: Any, prompts: Any = PROMPTS) -> list[Trial]:
    return trials.tried(prompts, resolve(list(functions)), policy, SingleTurn())


def errors(found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is Level.ERROR]


def contains_gold(completion: str, answer: str) -> float:
    return 1.0 if answer in completion else 0.0


def likes_format(completion: str, tags: Any) -> float:
    return 1.0 if tags.solution_start in completion else 0.0


def likes_silence(completion: str) -> float:
    return -len(completion) / 1000


def flat(completion: str) -> float:
    return 0.5


def raises_on_silence(completion: str) -> float:
    return 1.0 / len(completion)


SHIPPED = ("arithmetic.number_found", "arithmetic.number_right", "format.follows_format")


def test_rewards_in_order_pass(policy: Policy) -> None:
    """Prevents: a check that refuses the recipe that ships with Heron."""
    found = tried(policy, *SHIPPED)
    assert len(found) == 5 * trials.ROWS and {trial.kind for trial in found} == set(trials.KINDS)
    assert trials.findings_of(found, stops=True) == []
    wrong, gold = trials.wrong_and_gold(found) or (0.0, 0.0)
    assert (wrong, gold) == (-1.0, 5.0)


def test_a_wrong_answer_that_is_paid_like_a_right_one_refuses(policy: Policy) -> None:
    """Prevents: training on the format alone while it is called correctness."""
    (found,) = errors(trials.findings_of(tried(policy, likes_format, flat), stops=True))[:1]
    assert "a wrong answer is paid like a right one" in found.text and len(found.rows) == trials.ROWS


def test_another_rows_answer_is_a_wrong_one(policy: Policy) -> None:
    """Prevents: a reward that looks for an answer from anywhere in the dataset."""

    def any_of_them(completion: str) -> float:
        return 1.0 if (answer_text(completion, TAGS) or "") in {row.answer for row in PROMPTS} else 0.0

    found = errors(trials.findings_of(tried(policy, any_of_them), stops=True))
    assert ["another row's answer" in each.text for each in found] == [True]


@pytest.mark.parametrize("golds", [("2", "2.0", " 2", "2,000.00", "2000"), ("1/2", "0.5", "0.50", "2"), ("Yes", "yes ", "no")])
def test_an_equal_answer_of_another_row_is_no_wrong_one(policy: Policy, golds: tuple[str, ...]) -> None:
    """Prevents: a good reward that is refused, since two rows write the same answer in two ways."""
    prompts = [prompt(number, "How many?", answer=gold) for number, gold in enumerate(golds)]
    others = [trial for trial in tried(policy, flat, prompts=prompts) if trial.kind == trials.OTHERS]
    assert len(others) == 2 and {trial.row for trial in others} == {prompts[0].id, prompts[3 if golds[1] == "2.0" else len(golds) - 1].id}


def test_paying_for_nothing_at_all_refuses(policy: Policy) -> None:
    """Prevents: a length penalty that outweighs everything: the best answer is none."""
    found = errors(trials.findings_of(tried(policy, contains_gold, likes_silence), stops=True))
    assert not any("no answer" in each.text for each in found), "a small penalty is no fault"
    heavy = trials.tried(PROMPTS, [(contains_gold, 1.0), (likes_silence, 10.0)], policy, SingleTurn())
    found = errors(trials.findings_of(heavy, stops=True))
    assert any("no answer is paid like a right one" in each.text for each in found)


def test_a_reward_that_never_varies_is_named(policy: Policy) -> None:
    """Prevents: a dead column beside a live one; and nothing but dead columns, which refuses."""
    beside = trials.findings_of(tried(policy, flat, *SHIPPED), stops=True)
    assert [(each.level, "flat" in each.text) for each in beside] == [(Level.NOTE, True)]
    assert any("are paid the same" in each.text for each in errors(trials.findings_of(tried(policy, flat), stops=True)))


def test_a_reward_that_raises_is_named_and_hides_no_other(policy: Policy) -> None:
    """Prevents: a crash at the first empty answer, in the middle of a run."""
    found = tried(policy, raises_on_silence, *SHIPPED)
    silent = [trial for trial in found if trial.kind == trials.EMPTY]
    assert all(trial.total is None and trial.rewards["number_right"] == -3.0 for trial in silent)
    (failure,) = errors(trials.findings_of(found, stops=True))
    assert "raises_on_silence failed at 4 of 20" in failure.text and "ZeroDivisionError" in failure.rows[0]
    assert not errors(trials.findings_of(found, stops=False)), "where failures are excluded, the run would go on"


def test_the_layout_that_is_asked_for_is_found(policy: Policy) -> None:
    """Prevents: the ideal answer being tried in a layout that the recipe does not want, and its reward called dead."""
    found = tried(policy, "gsm8k.strict_format", "gsm8k.correctness")
    assert {trial.rewards["strict_format"] for trial in found if trial.kind == trials.GOLD} == {0.5}
    assert all("\n" in trial.text for trial in found if trial.kind == trials.GOLD)


def test_a_prefilled_tag_is_not_said_twice(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a right answer that fails the format, since its opening tag is there twice."""
    policy = load_tiny(tiny_folder("qwen3"), chat_template="heron-reasoning")
    found = tried(policy, "format.follows_format", "arithmetic.number_right")
    gold = [trial for trial in found if trial.kind == trials.GOLD]
    assert all(trial.rewards["follows_format"] == 1.0 and not trial.text.startswith(TAGS.reasoning_start) for trial in gold)


def test_functions_that_ask_for_tokens_get_them(policy: Policy) -> None:
    """Prevents: token rewards being tried on no tokens at all."""

    def tokens(completions: list[Any], completion_ids: list[list[int]]) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    lengths = {trial.kind: trial.rewards["tokens"] for trial in tried(policy, tokens)}
    assert lengths[trials.EMPTY] == 1.0 and (lengths[trials.GOLD] or 0) > 50


@pytest.mark.parametrize(("gold", "wrong"), [("18", "19"), ("-1", "0"), ("1,000", "1001"), ("3/4", "7/4"), ("Paris", trials.NO_ANSWER)])
def test_the_wrong_answer_is_wrong(gold: str, wrong: str) -> None:
    """Prevents: a right answer in the column of wrong ones."""
    assert trials.wrong_answer(gold) == wrong


def test_rows_without_reference_are_said(policy: Policy) -> None:
    """Prevents: an empty table that looks like a passed check."""
    found = tried(policy, flat, prompts=[prompt(0)])
    assert found == [] and "No row has a reference" in trials.findings_of(found, stops=True)[0].text


class TestPrompts:
    """How long they are, and what they look like."""

    def test_percentiles_are_lengths_that_occur(self) -> None:
        """Prevents: an interpolated longest prompt that no limit needs to hold."""
        assert percentiles(range(1, 101)) == {"5": 5, "50": 50, "95": 95, "100": 100}
        assert percentiles([7]) == dict.fromkeys(("5", "50", "95", "100"), 7)

    def test_all_prompts_without_room_are_named(self, policy: Policy) -> None:
        """Prevents: a context that overflows at the one long row, after 120 steps."""
        rows = [*PROMPTS, prompt(98, "x" * 450), prompt(99, "x" * 460)]
        lengths, bad, found = measure(rows, policy, SingleTurn(), 100)
        assert bad == {"test:98", "test:99"} and errors(found)[0].rows[1].startswith("test:99 has ")
        assert lengths.context == 512 and lengths.percentiles["100"] > 460
        assert measure(PROMPTS, policy, SingleTurn(), 100)[1:] == (set(), [])

    def test_special_tokens_are_marked(self, policy: Policy) -> None:
        """Prevents: a tag of the template that is only text, and looks like a token."""
        ids = (*policy.encode("<|user|>"), *policy.encode("a < b"), *policy.encode("<|end|>"))
        assert marked(ids, policy) == "⟦<|user|>⟧a < b⟦<|end|>⟧"
