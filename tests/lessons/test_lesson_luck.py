"""The lesson `luck`: waiting takes 1/p tries, nothing is learnt from equals, partial credit lifts the unseen, and 0 stays 0."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch

from heron.lessons.luck import KINDS, RUBRICS, has_signal, learn, of_right, start, waits

RIGHT, NUMBER, NEAR = RUBRICS.values()


@pytest.mark.parametrize("probability", [0.0, 1e-6, 0.001, 0.3, 1.0])
def test_the_policy_begins_where_it_is_told(probability: float) -> None:
    """Prevents: a slider that shows another probability than the one that it is set to."""
    tables = start(probability)
    assert of_right(tables) == pytest.approx(probability, rel=1e-12)
    chances = tables.softmax(1)
    joint = chances[0, : len(KINDS), None] * chances[1:]
    assert float(joint.sum()) == pytest.approx(1) and float(joint[:, 0].sum()) >= probability


@pytest.mark.parametrize("probability", [0.5, 0.02, 0.001])
def test_the_mean_wait_is_one_over_the_probability(probability: float) -> None:
    """Prevents: a waiting time that is not that of independent tries. The mean of n waits has the error sqrt(1 - p) / p / sqrt(n)."""
    tries = waits(probability, 4000, seed=3)
    error = math.sqrt(1 - probability) / probability / math.sqrt(len(tries))
    assert abs(fmean(tries) - 1 / probability) < 4 * error and min(tries) >= 1


def test_what_is_drawn_first_is_as_rare_as_waiting_says() -> None:
    """Prevents: a policy whose first right answer comes sooner or later than its probability allows, where nothing is learnt before."""
    found = [learn(0.05, RIGHT, group_size=4, steps=400, seed=seed).found for seed in range(60)]
    tries = [float(each) for each in found if each is not None]
    assert len(tries) == 60 and abs(fmean(tries) - 20) < 4 * 20 / math.sqrt(60)


@pytest.mark.parametrize("functions", RUBRICS.values(), ids=RUBRICS)
def test_probability_zero_stays_exactly_zero(functions: tuple[str, ...]) -> None:
    """Prevents: a lesson in which hope helps, or a NaN from minus infinity."""
    for seed in range(3):
        learnt = learn(0.0, functions, group_size=8, steps=60, seed=seed)
        assert (learnt.found, learnt.sure, learnt.end) == (None, None, 0.0)
        assert learnt.says != "4"


def test_wrong_answers_paid_alike_move_nothing() -> None:
    """Prevents: luck that "improves while you wait" where all siblings are paid the same: not by one bit until the first right answer."""
    for seed in range(6):
        learnt = learn(0.002, RIGHT, group_size=8, steps=40, seed=seed)
        if learnt.found is None:
            assert learnt.end == of_right(start(0.002))
        else:
            assert learnt.then == of_right(start(0.002))


def test_partial_credit_lifts_the_answer_that_was_never_seen() -> None:
    """Prevents: the central claim going wrong: paid for being a number, numbers rise to nearly all there is, the unseen one among them."""
    ends = [learn(1e-9, NUMBER, group_size=8, steps=60, seed=seed) for seed in range(6)]
    assert all(each.found is None for each in ends)
    assert fmean(each.end for each in ends) > 2 * 1e-9


def test_partial_credit_finds_the_answer_in_fewer_tries() -> None:
    """Prevents: a table that says so by chance; over twelve seeds, where nothing found counts as all tries."""
    mean = {}
    for name, functions in (("right", RIGHT), ("number", NUMBER)):
        found = [learn(0.002, functions, group_size=8, steps=250, seed=seed).found for seed in range(12)]
        mean[name] = fmean(2000 if each is None else each for each in found)
    assert mean["number"] < mean["right"] / 1.5, mean


def test_nearness_may_settle_beside_the_answer() -> None:
    """Prevents: the warning going untested: with a rare right answer the policy settles on a near one."""
    ends = [learn(0.0005, NEAR, group_size=8, steps=150, seed=seed) for seed in range(4)]
    assert sum(each.end < 0.01 and each.says in ("3", "5") for each in ends) >= 3, ends


@pytest.mark.parametrize(("probability", "size"), [(0.1, 8), (0.5, 2), (0.0, 8), (1.0, 8)])
def test_share_of_groups_with_a_signal(probability: float, size: int) -> None:
    """Prevents: a formula that forgets the groups that are all right. Counted over all outcomes."""
    outcomes = [[outcome >> bit & 1 for bit in range(size)] for outcome in range(2**size)]
    mixed = sum(probability ** sum(o) * (1 - probability) ** (size - sum(o)) for o in outcomes if 0 < sum(o) < size)
    assert has_signal(probability, size) == pytest.approx(mixed)


def test_punishing_wrong_answers_says_no_more_than_rewarding_right_ones() -> None:
    """Prevents: docs/learn/06 being wrong: in expectation, -1 for wrong answers has the gradient of +1 for right ones, p times that of
    log p, so both fade with p."""
    sizes = {}
    for probability in (1e-2, 1e-4):
        logits = start(probability).requires_grad_()
        joint = (logits[0, : len(KINDS)].log_softmax(0)[:, None] + logits[1:].log_softmax(1)).exp()
        right, wrong = joint[0, 0], joint.sum() - joint[0, 0]
        up, down = (torch.autograd.grad(each, logits, retain_graph=True)[0].nan_to_num() for each in (right, -wrong))
        known = logits.isfinite()
        assert torch.allclose(up[known], down[known], atol=1e-12)
        sizes[probability] = float(up[known].norm())
    assert sizes[1e-4] == pytest.approx(sizes[1e-2] / 100, rel=0.1)
