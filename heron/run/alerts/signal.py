"""What can be missing to learn from: right answers, differences between siblings, siblings to compare with."""

from __future__ import annotations

from heron.run.alerts.history import LONG_ENOUGH, WINDOW, Alert, History, rises
from heron.run.alerts.waiting import may_only_follow

FEW = 0.1
"""Share of groups with a signal below which nothing can be learnt."""


def never_right(history: History) -> Alert | None:
    """Not one training answer was right so far."""
    steps = history.course.count.get("pass@1", 0)
    if steps < LONG_ENOUGH or history.course.high["pass@1"] > 0:
        return None
    return Alert(
        id="never-right",
        title="No answer was ever right",
        evidence=f"pass@1 was 0 in each of {steps} steps",
        advice="What never happens by luck cannot be reinforced: easier problems, a warm-up on examples, a longer "
        "rollout.max_completion_length. And check that evaluation.verifier reads the answers (`heron check`).",
    )


def no_signal(history: History) -> Alert | None:
    """Nearly every group's siblings got equal rewards, so nothing can be learnt from them."""
    now = history.now("groups/with_signal")
    if now is None or now >= FEW or history.is_mastered() or may_only_follow(history, "groups/with_signal", lambda share: share < FEW):
        return None
    return Alert(
        id="no-signal",
        title="Almost no group carries a signal",
        evidence=f"in the last {WINDOW} steps {now:.0%} of the groups had siblings with unequal rewards",
        advice="If all answers are wrong: easier problems, a stronger start, or more rollout.num_generations. "
        "If all are right: harder problems, or stop here.",
    )


def lonely_rollouts(history: History) -> Alert | None:
    """In many groups a single rollout could be scored, so it has none to be better than."""
    now = history.now("groups/one_scorable")
    if now is None or now <= 0.1:
        return None
    return Alert(
        id="lonely-rollouts",
        title="Many groups have one scorable answer",
        evidence=f"in the last {WINDOW} steps every reward function returned None for all but one answer in {now:.0%} of the groups",
        advice="An answer alone has advantage 0. Let the reward functions return a number where they can, or raise "
        "rollout.num_generations.",
    )


def duplicates(history: History) -> Alert | None:
    """Siblings repeat each other word for word, few groups tell anything apart, and nothing is learnt. (Short answers repeat by chance.)"""
    now, signal = history.now("completions/duplicates"), history.now("groups/with_signal")
    if now is None or now <= 0.5 or signal is None or signal >= 0.3 or history.is_mastered():
        return None
    if history.steps < LONG_ENOUGH or rises(history.skill()):
        return None
    return Alert(
        id="duplicate-completions",
        title="Siblings say the same",
        evidence=f"in the last {WINDOW} steps {now:.0%} of the answers were equal to a sibling's, word for word, and {signal:.0%} of "
        "the groups carried a signal",
        advice="Equal answers cannot be compared: raise rollout.temperature towards 1, lower train.learning_rate, or set "
        "objective.entropy_coef.",
    )
