"""Whether a run learns, in one sentence: what somebody wants to know who looks at the page for a second.

The one hard idea: a rising reward is not yet learning, since format alone can pay. So right answers decide where there is a verifier
(`pass@1`), the reward otherwise, and a change counts only if it stands out of the noise (`rises`). What the alerts say is said beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.run import History
from heron.run.alerts import Alert
from heron.run.alerts.history import LONG_ENOUGH, falls, rises

RUINOUS = ("not-finite", "reward-collapse", "entropy-explosion")
"""Alerts after which nothing is learnt any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the run's record says of its success."""

    mood: str
    """`good`, `warn`, `bad` or `wait`: how it is coloured."""
    headline: str
    """In a few words."""
    sentence: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure at the start and now."""

    name: str
    """As logged, or `accuracy`."""
    label: str
    """In plain words."""
    start: float | None
    """Mean over the first steps, or the evaluation before."""
    now: float | None
    """Mean over the newest steps, or the newest evaluation; None where there is only one."""


def judge(history: History, alerts: Sequence[Alert], status: str) -> Verdict:
    """What to say of a run with this history."""
    is_over = status in ("finished", "interrupted", "failed")
    if status == "failed":
        return _say("bad", "It stopped with an error.", "What was recorded until then stands below.")
    if not history.metrics:
        words = "It ended before its first step." if is_over else "The first step is on its way."
        return _say("wait", "Nothing recorded yet.", words)
    found = _trend(history, is_over)
    return _with_alert(found, alerts[0], is_over) if alerts else found


def changes(history: History) -> list[Change]:
    """The figures that tell: held-out accuracy, right answers, reward."""
    held_out = [totals.get("accuracy") for totals in history.evaluations.values()]
    known: list[float] = [value for value in held_out if value is not None]
    accuracy = Change(name="accuracy", label="held-out accuracy", start=known[0], now=known[-1] if known[1:] else None) if known else None
    found = [accuracy, _change(history, "pass@1", "right answers"), _change(history, "reward", "reward")]
    return [change for change in found if change is not None]


def _with_alert(found: Verdict, alert: Alert, is_over: bool) -> Verdict:
    """The gravest alert weighs more than no trend, and beside a good one it is a remark."""
    if alert.id in RUINOUS:
        return _say("bad", "It fell apart." if is_over else "It is falling apart.", f"{alert.title}.")
    if found.mood == "good":
        return _say("warn", found.headline, f"{found.sentence} But: {alert.title[0].lower()}{alert.title[1:]}.")
    return _say("warn", "Something looks wrong.", f"{alert.title}.") if found.mood == "wait" else found


def _trend(history: History, is_over: bool) -> Verdict:
    skill, reward = history.values("pass@1"), history.values("reward")
    if history.is_mastered():
        return _say("good", "It has learnt this." if is_over else "It has learnt nearly all there is here.",
                    "Nearly every answer is right: harder problems would teach it more.")
    if history.steps < LONG_ENOUGH:
        return _say("wait", "Too early to say.", f"A trend is judged from {LONG_ENOUGH} steps on.")
    if falls(skill or reward):
        return _say("bad", "It got worse." if is_over else "It is getting worse.",
                    f"{'Right answers' if skill else 'Rewards'} are rarer than they were at the start.")
    if rises(skill or reward):
        return _say("good", "It learnt." if is_over else "It is learning.",
                    f"{'Right answers have become more frequent' if skill else 'The reward rises'}, beyond what noise would do.")
    if skill and rises(reward):
        return _say("warn", "The reward rises, right answers do not.", "What is paid for is learnt, but it is not the task.")
    return _say("wait", "No change beyond noise.", _patience(history))


def _patience(history: History) -> str:
    """Whether waiting can help."""
    mixed = history.now("groups/mixed")
    if mixed is not None and mixed < 0.1:
        return "Few groups hold both right and wrong answers, so there is little to learn from."
    return "There is signal: patience."


def _change(history: History, name: str, label: str) -> Change | None:
    start, now = history.start(name), history.now(name)
    if start is None:
        values: Sequence[float] = history.values(name)
        return Change(name=name, label=label, start=values[-1], now=None) if values else None
    return Change(name=name, label=label, start=start, now=now)


def _say(mood: str, headline: str, sentence: str) -> Verdict:
    return Verdict(mood=mood, headline=headline, sentence=sentence)


