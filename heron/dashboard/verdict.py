"""Whether a run learns, in one sentence: what somebody wants to know who looks at the page for a second.

The one hard idea: a rising reward is not yet learning, since format alone can pay. So held-out problems decide where they were measured
twice, right answers in training otherwise (`pass@1`), the reward where there is no verifier. Up, down and flat each need evidence (see
`gain`): what has none of the three is called unclear, and is never a warning.

Left out: what the alerts look for. The headline names the first of them, which is the likeliest cause, where there is no trend; beside a
trend it is a remark. Three are ruinous, since nothing is learnt after them: a number stopped being finite, the reward fell below where it
was, the entropy exploded. One of these is the headline wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.dashboard.gain import Gain, in_training, on_held_out
from heron.run import History
from heron.run.alerts import Alert
from heron.run.alerts.history import LONG_ENOUGH, MASTERED

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
        return _nothing_yet(is_over)
    ruin = next((alert for alert in alerts if alert.id in RUINOUS), None)
    if ruin is not None:
        return _say("bad", "It fell apart." if is_over else "It is falling apart.", _cause_and_ruin(alerts[0], ruin))
    found = _trend(history, is_over)
    return _with_alert(found, alerts[0]) if alerts else found


def changes(history: History) -> list[Change]:
    """The figures that tell: held-out accuracy, right answers, reward."""
    held_out = [totals.get("accuracy") for totals in history.evaluations.values()]
    known: list[float] = [value for value in held_out if value is not None]
    accuracy = Change(name="accuracy", label="held-out accuracy", start=known[0], now=known[-1] if known[1:] else None) if known else None
    found = [accuracy, _change(history, "pass@1", "right answers"), _change(history, "reward", "reward")]
    return [change for change in found if change is not None]


def _nothing_yet(is_over: bool) -> Verdict:
    if is_over:
        return _say("wait", "Nothing was recorded.", "It ended before its first step.")
    return _say("wait", "Nothing recorded yet.", "The first step is on its way.")


def _cause_and_ruin(first: Alert, ruin: Alert) -> str:
    return f"{ruin.title}." if first is ruin else f"{first.title}, and {_inside(ruin.title)}."


def _with_alert(found: Verdict, alert: Alert) -> Verdict:
    """The likeliest cause weighs more than no trend, explains a bad one, and is a remark beside a good one."""
    if found.mood == "wait":
        return _say("warn", f"{alert.title}.", found.headline)
    link = "But:" if found.mood == "good" else "The likeliest cause:"
    return _say("bad" if found.mood == "bad" else "warn", found.headline, f"{found.sentence} {link} {_inside(alert.title)}.")


def _trend(history: History, is_over: bool) -> Verdict:
    held_out, right, reward = on_held_out(history.evaluations), in_training(history.values("pass@1")), in_training(history.values("reward"))
    mastered = _mastered(history, held_out, is_over)
    if mastered is not None:
        return mastered
    sources = {"Right answers on held-out problems": held_out, "Right answers in training": right, "The reward": None if right else reward}
    for what, gain in sources.items():
        if gain is not None and (gain.is_up or gain.is_down):
            return _moved(gain, f"{what}: {_from_to(gain, is_share=gain is not reward)}.", is_over)
        if gain is not None and gain.is_flat:
            return _flat(history, gain, right, reward)
    return _unclear(history, held_out or right, reward)


def _mastered(history: History, held_out: Gain | None, is_over: bool) -> Verdict | None:
    """Nearly all answers are right: on held-out problems once they were measured twice, else in training."""
    share = held_out.now if held_out else history.now("pass@1")
    if share is None or share < MASTERED:
        return None
    where = "of the held-out problems" if held_out else "of the answers in training"
    return _say("good", "It has learnt this." if is_over else "It has learnt nearly all there is here.",
                f"{_percent(share)} {where} are right: harder ones would teach it more.")


def _moved(gain: Gain, figures: str, is_over: bool) -> Verdict:
    if gain.is_up:
        return _say("good", "It learnt." if is_over else "It is learning.", figures)
    return _say("bad", "It got worse." if is_over else "It is getting worse.", figures)


def _flat(history: History, gain: Gain, right: Gain | None, reward: Gain | None) -> Verdict:
    """There is evidence that right answers do not become more frequent; do other figures rise?"""
    if right is not None and right.is_up:
        return _say("warn", "It learns its own problems and no others.", f"In training {_from_to(right)}, held-out {_from_to(gain)}.")
    if gain is not reward and reward is not None and reward.is_up:
        return _say("warn", "The reward rises, right answers do not.", f"{_from_to(gain)}: what is paid for is learnt; it is not the task.")
    return _say("wait", "No change beyond noise.", _patience(history))


def _unclear(history: History, right: Gain | None, reward: Gain | None) -> Verdict:
    if right is not None and reward is not None and reward.is_up:
        return _say("wait", "The reward rises.", f"Whether right answers do cannot be told from noise yet: {_from_to(right)}.")
    if history.steps < LONG_ENOUGH:
        return _say("wait", "Too early to say.", f"A trend is judged from {LONG_ENOUGH} steps on.")
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


def _from_to(gain: Gain, *, is_share: bool = True) -> str:
    return f"{_percent(gain.start)} → {_percent(gain.now)}" if is_share else f"{gain.start:.2f} → {gain.now:.2f}"


def _percent(share: float) -> str:
    """With a digit more where it is small."""
    return f"{100 * share:.{int(share < 0.03)}f} %"


def _inside(title: str) -> str:
    """A title inside a sentence."""
    return title[0].lower() + title[1:]
