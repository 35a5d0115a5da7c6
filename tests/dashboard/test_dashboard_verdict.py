"""One sentence on whether a run learns: it must be right on runs whose fate is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heron.dashboard.verdict import changes, judge
from heron.run import History, examine

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
    assert judge(dull, examine(dull), "running").headline == "Something looks wrong."


def test_a_run_that_is_over_is_spoken_of_as_over() -> None:
    """`It is learning` beside `finished` makes one doubt both."""
    assert judge(history(lambda at: 0.2 + 0.6 * at, lambda at: at), (), "finished").headline == "It learnt."
    assert judge(History(metrics=[]), (), "interrupted").sentence == "It ended before its first step."
    assert judge(history(None, lambda at: at), (), "failed").headline == "It stopped with an error."


def test_figures_are_means_and_never_invented() -> None:
    """One lucky step is no figure, and a single evaluation is no change."""
    run = history(lambda at: 0.2 + 0.6 * at, lambda at: at)
    known = History(metrics=run.metrics, evaluations={"before": {"accuracy": 0.1}})
    found = {change.name: change for change in changes(known)}
    assert (found["accuracy"].start, found["accuracy"].now) == (0.1, None)
    assert found["pass@1"].start == pytest.approx(0.23, abs=0.01) and found["pass@1"].now == pytest.approx(0.78, abs=0.01)
    assert changes(History(metrics=[])) == []
