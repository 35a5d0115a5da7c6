"""One sentence on whether a run learns: it must be right on runs whose fate is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from heron.dashboard.gain import in_training, on_held_out
from heron.dashboard.verdict import RUINOUS, changes, judge
from heron.run import Alert, History, examine

Curve = Callable[[float], float]


def history(skill: Curve | None, reward: Curve, steps: int = 60, mixed: float = 0.5) -> History:
    """A run with these curves over the time from 0 to 1, with a ripple of noise."""
    records = []
    for step in range(1, steps + 1):
        at, ripple = step / steps, 0.02 * (-1) ** step
        record = {"step": step, "reward": reward(at) + ripple, "reward_std": 1.0, "groups/mixed": mixed, "groups/with_signal": mixed}
        records.append(record | ({"pass@1": skill(at) + ripple} if skill else {}))
    return History(metrics=records)


@pytest.mark.parametrize(
    ("looked_at", "mood", "headline"),
    [
        (history(lambda at: 0.2 + 0.6 * at, lambda at: at), "good", "It is learning."),
        (history(None, lambda at: at), "good", "It is learning."),
        (history(lambda at: 0.95, lambda at: 4.0), "good", "It has learnt nearly all there is here."),
        (history(lambda at: 0.3, lambda at: 1.0), "wait", "No change beyond noise."),
        (history(lambda at: 0.3, lambda at: at), "warn", "The reward rises, right answers do not."),
        (history(lambda at: 0.6 - 0.3 * at, lambda at: 1 - 0.4 * at), "bad", "It is getting worse."),
        (history(lambda at: 0.2 + 0.6 * at, lambda at: at, steps=10), "wait", "Too early to say."),
        (History(metrics=[]), "wait", "Nothing recorded yet."),
    ],
)
def test_each_fate_has_its_word(looked_at: History, mood: str, headline: str) -> None:
    """A page that calls a flat run a success, or a rising reward learning, is worse than none."""
    verdict = judge(looked_at, (), "running")
    assert (verdict.mood, verdict.headline) == (mood, headline)


def test_patience_is_advised_only_where_it_helps() -> None:
    """Without mixed groups nothing is learnt, however long one waits."""
    flat = (lambda at: 0.1, lambda at: 1.0)
    assert "patience" in judge(history(*flat), (), "running").sentence
    assert "little to learn from" in judge(history(*flat, mixed=0.02), (), "running").sentence


def test_an_alert_is_a_remark_beside_success_and_the_headline_without_it() -> None:
    """A run that collapsed must not be called a run without a trend."""
    collapsed = history(lambda at: 0.3 if at < 0.2 else 0.25, lambda at: 1.0 if at < 0.2 else -4.0, steps=30)
    standing = examine(collapsed)
    assert standing[0].id == "reward-collapse" and judge(collapsed, standing, "running").headline == "It is falling apart."
    learning, dull = history(lambda at: 0.2 + 0.6 * at, lambda at: at), history(lambda at: 0.3, lambda at: 1.0, mixed=0.05)
    beside = judge(learning, examine(dull), "running")
    assert beside.mood == "warn" and beside.headline == "It is learning." and "But: almost no group carries a signal." in beside.sentence
    assert judge(dull, examine(dull), "running").headline == "Almost no group carries a signal."


def test_a_run_that_is_over_is_spoken_of_as_over() -> None:
    """`It is learning` beside `finished` makes one doubt both."""
    assert judge(history(lambda at: 0.2 + 0.6 * at, lambda at: at), (), "finished").headline == "It learnt."
    ended = judge(History(metrics=[]), (), "interrupted")
    assert (ended.headline, ended.sentence) == ("Nothing was recorded.", "It ended before its first step.")
    assert judge(history(None, lambda at: at), (), "failed").headline == "It stopped with an error."


def test_figures_are_means_and_never_invented() -> None:
    """One lucky step is no figure, and a single evaluation is no change."""
    run = history(lambda at: 0.2 + 0.6 * at, lambda at: at)
    known = History(metrics=run.metrics, evaluations={"before": {"accuracy": 0.1}})
    found = {change.name: change for change in changes(known)}
    assert (found["accuracy"].start, found["accuracy"].now) == (0.1, None)
    assert found["pass@1"].start == pytest.approx(0.23, abs=0.01) and found["pass@1"].now == pytest.approx(0.78, abs=0.01)
    assert changes(History(metrics=[])) == []


def evaluated(of: History, *accuracies: float, pass_at_1: tuple[float, ...] = (), problems: int = 128) -> History:
    """The same run with evaluations, whose intervals are Wilson's as those of a real one."""
    names = ["before", *(f"step-{20 * number:06d}" for number in range(1, len(accuracies) - 1)), "after"]
    found = {name: wilson("accuracy", accuracy, problems) for name, accuracy in zip(names, accuracies, strict=True)}
    for name, share in zip(names, pass_at_1, strict=False):
        found[name] |= wilson("pass_at_1", share, problems)
    return History(metrics=of.metrics, evaluations=found)


def wilson(name: str, share: float, problems: int) -> dict[str, float]:
    z = 1.96 * 1.96 / problems
    middle, half = (share + z / 2) / (1 + z), 1.96 * math.sqrt(share * (1 - share) / problems + z / problems / 4) / (1 + z)
    return {name: share, f"{name}_low": middle - half, f"{name}_high": middle + half}


def noisy(curve: Curve, spread: float, steps: int = 80) -> History:
    """Right answers of few rollouts a step, so that a rise drowns in noise; the reward rises clearly."""
    dice = random.Random(3)
    return History(metrics=[
        {"step": step, "reward": step / steps, "reward_std": 1.0, "groups/mixed": 0.5,
         "pass@1": min(1.0, max(0.0, curve(step / steps) + dice.gauss(0, spread)))} for step in range(1, steps + 1)
    ])  # fmt: skip


def test_held_out_problems_decide_where_they_were_measured_twice() -> None:
    """A run whose held-out accuracy rose from 9 % to 54 % was said to learn something other than its task, since few rollouts a step
    hide the rise of right answers."""
    drowned = noisy(lambda at: 0.3 + 0.08 * at, 0.15)
    assert judge(evaluated(drowned, 0.086, 0.539), (), "finished").headline == "It learnt."
    assert "9 % → 54 %" in judge(evaluated(drowned, 0.086, 0.539), (), "finished").sentence
    assert judge(evaluated(drowned, 0.3, 0.1), (), "finished").headline == "It got worse."
    assert judge(evaluated(drowned, 0.1, 0.3, 0.55), (), "running").headline == "It is learning.", "the first against the newest"


def test_sampled_held_out_answers_tell_where_greedy_ones_do_not() -> None:
    """Greedy answers may stand still while the share of right samples doubles: to call that no change is untrue."""
    found = evaluated(history(lambda at: 0.3, lambda at: 1.0), 0.2, 0.24, pass_at_1=(0.1, 0.3))
    assert judge(found, (), "finished").headline == "It learnt." and "10 % → 30 %" in judge(found, (), "finished").sentence


def test_no_significant_rise_is_no_evidence_of_none() -> None:
    """`Right answers do not` was said of every run with too much noise to tell, and stood in amber beside a clear strip of alerts."""
    drowned = noisy(lambda at: 0.3 + 0.08 * at, 0.15)
    verdict = judge(drowned, (), "running")
    assert (verdict.mood, verdict.headline) == ("wait", "The reward rises.") and "cannot be told" in verdict.sentence
    few = evaluated(drowned, 0.4, 0.45, problems=30)
    assert judge(few, (), "running").mood == "wait"
    many = evaluated(history(lambda at: 0.4, lambda at: at), 0.4, 0.4, problems=1000)
    assert judge(many, (), "running").headline == "The reward rises, right answers do not."


def test_held_out_problems_that_stand_still_beside_training_are_no_success() -> None:
    """A model that learns its problems by heart was said to be learning."""
    by_heart = evaluated(history(lambda at: 0.2 + 0.6 * at, lambda at: at), 0.1, 0.1, problems=256)
    verdict = judge(by_heart, (), "running")
    assert verdict.mood == "warn" and verdict.headline == "It learns its own problems and no others."


def test_what_is_learnt_is_told_by_right_answers_alone() -> None:
    """`Nearly every answer is right` stood over a run with 55 % right answers, half of whose groups were all right."""
    figures = {"pass@1": 0.55, "groups/all_right": 0.5, "groups/mixed": 0.1}
    half = [{"step": step, "reward": 1.0 + step / 60, **figures} for step in range(1, 61)]
    assert judge(History(metrics=half), (), "finished").headline != "It has learnt this."
    trained = history(lambda at: 0.95, lambda at: 4.0)
    assert judge(evaluated(trained, 0.5, 0.55), (), "finished").headline != "It has learnt this."
    assert judge(evaluated(history(lambda at: 0.6, lambda at: 4.0), 0.5, 0.95), (), "finished").headline == "It has learnt this."


def test_the_ruinous_alert_is_named_wherever_it_stands_and_the_cause_with_it() -> None:
    """A run that fell apart was said to earn more: its first alert, the cause, was not among the ruinous ones, and neither was named."""
    cause, ruin, other = (Alert(id=one, title=title, evidence="", advice="") for one, title in
                          (("truncation", "Many completions are cut off"), (RUINOUS[2], "The model is falling apart"), ("disk", "Full")))
    rising = history(lambda at: 0.3, lambda at: at)
    verdict = judge(rising, (cause, other, ruin), "finished")
    assert (verdict.mood, verdict.headline) == ("bad", "It fell apart.")
    assert verdict.sentence == "Many completions are cut off, and the model is falling apart."
    assert judge(rising, (ruin, cause), "finished").sentence == "The model is falling apart."
    assert judge(rising, (cause, other), "finished").sentence.endswith("The likeliest cause: many completions are cut off.")


def test_no_number_ends_the_page() -> None:
    """A reward of 1e300, or totals that are none, would be an error in the headline's statistics, and with it the end of the screen."""
    wild = [{"step": step, "reward": 1e308 * (-1) ** step, "pass@1": 0.3} for step in range(1, 61)]
    totals = {"before": {"accuracy": "none"}, "step-1": {"accuracy": 10**400}, "after": {"accuracy": 0.2, "accuracy_low": None}}
    assert judge(History(metrics=wild, evaluations=totals), (), "running").headline == "No change beyond noise."


def test_a_gain_has_a_span() -> None:
    """Without one, up and flat are the two halves of a coin, and every run is one of them."""
    assert in_training([0.1] * 19) is None and on_held_out({"before": {"accuracy": 0.1}}) is None
    still, risen = in_training([0.3] * 40), in_training([0.1] * 20 + [0.2] * 20)
    assert still and still.is_flat and not still.is_up and risen and risen.is_up and not risen.is_flat
    wide = on_held_out({"before": wilson("accuracy", 0.5, 40), "after": wilson("accuracy", 0.5, 40)})
    assert wide and not (wide.is_up or wide.is_down or wide.is_flat)
    narrow = on_held_out({"before": wilson("accuracy", 0.5, 400), "after": wilson("accuracy", 0.5, 400)})
    assert narrow and narrow.is_flat and narrow.least == pytest.approx(-narrow.most, abs=1e-6) == pytest.approx(-0.069, abs=0.001)
