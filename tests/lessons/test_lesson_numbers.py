"""The lessons that reckon: `sum`, `group`, `clip` and `kl`, against figures worked out by hand."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import pytest
from rich.console import Console, RenderableType

from heron.lessons import answers, groups
from heron.lessons.clip import RATIOS, points
from heron.lessons.kl import ANSWERS, settle


def printed(parts: Iterable[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=100)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("answer", "scores"), [
    ("4", (1, 3, 1.0)), ("3", (1, -3, 0.5)), ("8", (1, -3, 0.0)), ("-10", (1, -3, -0.5)), ("cat", (-1, -3, -1.0)), ("4.0", (1, 3, 1.0)),
])
def test_answers_are_paid_as_in_a_run(answer: str, scores: tuple[float, ...]) -> None:
    """Prevents: a lesson with prices of its own."""
    (row,) = answers.paid([answer])
    assert tuple(row.scores.values()) == scores


def test_a_part_of_the_way_tells_wrong_answers_apart() -> None:
    """Prevents: the sentence below the table not being that of its figures."""
    said = " ".join(printed(answers.shown(answers.ANSWERS)).split())
    assert "arithmetic.number_right: 2 different sums, 1 among the wrong answers." in said
    assert "proximity.distance: 5 different sums, 4 among the wrong answers." in said


def test_answers_are_no_markup() -> None:
    """Prevents: an answer that colours the table, or vanishes from it."""
    assert "[bold]4[/bold]" in printed(answers.shown(("[bold]4[/bold]", "4")))


def test_worked_numbers() -> None:
    """By hand: rewards 1, 0, 0, 0 have the mean 1/4 and the std sqrt((9 + 1 + 1 + 1) / 16 / 3) = 1/2."""
    text = printed(groups.shown([[1.0, 0.0, 0.0, 0.0]]))
    assert [line.split() for line in text.splitlines() if "0.25" in line] == [
        ["1", "1.00", "0.25", "+0.75", "0.50", "+1.50", "+1.50", "+0.75"], *[["0.00", "-0.25", "-0.50", "-0.50", "-0.25"]] * 3]


def test_equal_rewards_are_said_to_teach_nothing() -> None:
    """Prevents: the first thing to know about groups being left out, or said of a group that does teach."""
    text = " ".join(printed(groups.shown([[1.0, 0.0], [2.0, 2.0], [5.0]])).split())
    assert "All rewards are the same in group 2:" in text and "A group of one" in text
    assert "the same" not in printed(groups.shown([[1.0, 0.0]]))


def test_clip_takes_the_gradient_only_where_a_token_has_moved_far_enough() -> None:
    """Prevents: a clip shown on the wrong side. By hand: min(w A, clip(w, 0.8, 1.2) A)."""
    for point in points("grpo", {"epsilon": 0.2}, advantage=1.0):
        assert point.objective == pytest.approx(min(point.ratio, 1.2))
        assert point.gradient == pytest.approx(point.ratio if point.ratio <= 1.2 else 0.0)
    for point in points("grpo", {"epsilon": 0.2}, advantage=-1.0):
        assert point.objective == pytest.approx(-max(point.ratio, 0.8))
        assert point.gradient == pytest.approx(-point.ratio if point.ratio >= 0.8 else 0.0)


def test_other_losses_are_shown_as_they_are() -> None:
    """Prevents: delta and other losses that change nothing in the picture."""
    capped = points("grpo", {"epsilon": 0.2, "delta": 1.5}, advantage=-1.0)
    assert [point.gradient == 0 for point in capped] == [ratio < 0.8 or ratio > 1.5 for ratio in RATIOS]
    plain = points("reinforce", {}, advantage=-1.0)
    assert all(point.gradient == -1.0 and point.objective == pytest.approx(-math.log(point.ratio)) for point in plain)


@pytest.mark.parametrize("beta", [0.1, 0.5, 20.0])
def test_policy_settles_where_reward_and_spring_are_equal(beta: float) -> None:
    """Prevents: a spring that pulls elsewhere, and a step so long that it swings. k3's gradient is that of KL(start, policy), so at rest
    p (beta + mean reward - reward) = beta * start, for every answer."""
    found = settle(beta, steps=800)
    for chance, (start, reward) in zip(found.chances, ANSWERS.values(), strict=True):
        assert chance * (beta + found.reward - reward) == pytest.approx(beta * start, abs=1e-4)


def test_more_beta_less_distance_and_less_reward() -> None:
    """Prevents: a table whose rows say the opposite of its sentence."""
    settled = [settle(beta, steps=200) for beta in (0.0, 0.1, 0.5, 2.0)]
    assert [s.reward for s in settled] == sorted((s.reward for s in settled), reverse=True)
    assert [s.distance for s in settled] == sorted((s.distance for s in settled), reverse=True)
    assert settled[0].reward > 0.99
