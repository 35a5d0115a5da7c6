"""What can be wrong with a run that goes on without an error, each as one pure function over what was recorded.

The one hard idea: GRPO fails in silence. Rewards that are all equal, a reward that is learnt instead of the task, answers cut off
before they answer: the loss stays finite through all of them. Each function here looks for one such failure and, where it sees it,
returns the figures that show it and what to try.

Left out: anything that the trainer stops on by itself (numbers that are not finite in the middle of a step, a reward that raises).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

WINDOW = 5
"""Steps that a "now" is averaged over."""
LONG_ENOUGH = 20
"""Steps before which a trend is not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that looks wrong."""

    id: str
    """Stable name, such as `no-signal`."""
    title: str
    """What is wrong, in a few words."""
    evidence: str
    """The figures that show it."""
    advice: str
    """What to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was recorded of a run."""

    metrics: Sequence[Mapping[str, Any]]
    """A record per step."""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Totals of each evaluation by name, oldest first."""

    def values(self, key: str) -> list[float]:
        """The numbers recorded under `key`, in order of steps."""
        found = (record.get(key) for record in self.metrics)
        return [value for value in found if value is not None and math.isfinite(value)]

    def now(self, key: str) -> float | None:
        """The mean over the newest steps; None while there are too few of them."""
        values = self.values(key)
        return fmean(values[-WINDOW:]) if len(values) >= WINDOW else None

    def reward_names(self) -> list[str]:
        """Reward functions, by the keys of the newest step."""
        keys = self.metrics[-1] if self.metrics else {}
        return [key[len("rewards/") : -len("/mean")] for key in keys if key.startswith("rewards/") and key.endswith("/mean")]


def examine(history: History) -> tuple[Alert, ...]:
    """Every alert that this history gives reason for, the gravest first."""
    return tuple(alert for check in CHECKS if (alert := check(history)) is not None)


def not_finite(history: History) -> Alert | None:
    """A number that is not finite was recorded at the newest step."""
    last = history.metrics[-1] if history.metrics else {}
    bad = sorted(key for key, value in last.items() if value is None or (isinstance(value, float) and not math.isfinite(value)))
    if not bad:
        return None
    return Alert(
        id="not-finite",
        title="A number stopped being finite",
        evidence=f"step {last.get('step')}: {', '.join(bad)}",
        advice="Go back to the last checkpoint with a lower train.learning_rate or train.max_grad_norm.",
    )


def no_signal(history: History) -> Alert | None:
    """Nearly every group's siblings got equal rewards, so nothing can be learnt from them."""
    now = history.now("groups/with_signal")
    if now is None or now >= 0.1 or _solved(history):
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


def truncation(history: History) -> Alert | None:
    """Many answers are cut off at the token limit before they can be right."""
    now = history.now("completions/clipped_ratio")
    if now is None or now <= 0.3:
        return None
    return Alert(
        id="truncation",
        title="Many completions are cut off",
        evidence=f"in the last {WINDOW} steps {now:.0%} of them reached the token limit",
        advice="Raise rollout.max_completion_length. If they never end by themselves, check the model's end token and chat template.",
    )


def dead_reward(history: History) -> Alert | None:
    """A reward function has given no answer anything since the start. (A constant above 0 may be earned by all, which is no fault.)"""
    dead = [name for name in history.reward_names() if _never_pays(history, name)]
    if len(history.metrics) < 2 * WINDOW or not dead:
        return None
    scores = ", ".join(f"{name} = {history.values(f'rewards/{name}/mean')[-1]:g}" for name in dead)
    return Alert(
        id="dead-reward",
        title="A reward function never pays",
        evidence=f"every answer of {len(history.metrics)} steps scored {scores}",
        advice="Read some rollouts: does the function find the answer where the model writes it, tags and number format included?",
    )


def format_only(history: History) -> Alert | None:
    """Held-out answers took on the format but are no more often right."""
    pair = _first_and_last(history)
    if pair is None or any("format_rate" not in totals for totals in pair):
        return None
    before, after = pair
    learnt_format = after["format_rate"] >= 0.8 and after["format_rate"] >= before["format_rate"] + 0.2
    if not learnt_format or not _held_out_is_flat(before, after):
        return None
    return Alert(
        id="format-only",
        title="The format was learnt, the answer was not",
        evidence=f"held-out format {before['format_rate']:.0%} -> {after['format_rate']:.0%}, {_accuracies(before, after)}",
        advice="Lower the weight of the format rewards, or let them count only where the answer is right.",
    )


def reward_without_accuracy(history: History) -> Alert | None:
    """The reward rose while held-out accuracy did not: it may be earned in a way that was not meant."""
    pair = _first_and_last(history)
    if pair is None or not _rises(history.values("reward")) or not _held_out_is_flat(*pair):
        return None
    rewards = history.values("reward")
    return Alert(
        id="reward-without-accuracy",
        title="The reward rises, held-out accuracy does not",
        evidence=f"reward {fmean(rewards[:WINDOW]):.2f} -> {fmean(rewards[-WINDOW:]):.2f}, {_accuracies(*pair)}",
        advice="Read the rollouts with the highest reward: what are they paid for? Check the verifier, then the weights of the rewards.",
    )


def length_collapse(history: History) -> Alert | None:
    """Answers became much shorter and were not paid better for it."""
    lengths = history.values("completions/mean_length")
    if len(lengths) < LONG_ENOUGH or _rises(history.values("reward")):
        return None
    start, now = fmean(lengths[:WINDOW]), fmean(lengths[-WINDOW:])
    if now >= 0.4 * start:
        return None
    return Alert(
        id="length-collapse",
        title="Answers are getting short without getting better",
        evidence=f"mean length {start:.0f} -> {now:.0f} tokens while the reward did not rise",
        advice="Check that no reward pays for ending early, and try a lower train.learning_rate or objective.beta above 0.",
    )


def sampler_mismatch(history: History) -> Alert | None:
    """The sampler and the trainer disagree on the probability of the same tokens."""
    now = history.now("sampling/logp_difference_mean")
    if now is None or now <= 0.02:
        return None
    return Alert(
        id="sampler-mismatch",
        title="Sampler and trainer disagree",
        evidence=f"their log-probabilities of the same tokens differ by {now:.3f} on average",
        advice="Use a higher model.dtype precision; if it stays, please report it with the run's config.",
    )


def gradient_spike(history: History) -> Alert | None:
    """The newest gradient is far larger than the run's usual one."""
    norms = history.values("grad_norm")
    if len(norms) < LONG_ENOUGH or median(norms) == 0 or norms[-1] <= 10 * median(norms):
        return None
    return Alert(
        id="gradient-spike",
        title="The gradient jumped",
        evidence=f"its norm is {norms[-1]:.3g}, the median of the run {median(norms):.3g}",
        advice="One spike is clipped and harmless. If they repeat, lower train.learning_rate.",
    )


Check = Callable[[History], Alert | None]

CHECKS: tuple[Check, ...] = (
    not_finite,
    no_signal,
    lonely_rollouts,
    truncation,
    dead_reward,
    reward_without_accuracy,
    format_only,
    length_collapse,
    sampler_mismatch,
    gradient_spike,
)
"""Every check, the gravest first."""


def _solved(history: History) -> bool:
    """Most groups are all right: equal rewards are then the goal, not a fault."""
    return (history.now("groups/all_right") or 0.0) >= 0.5


def _never_pays(history: History, name: str) -> bool:
    spreads, means = history.values(f"rewards/{name}/std"), history.values(f"rewards/{name}/mean")
    return bool(means) and bool(spreads) and max(spreads) < 1e-9 and max(means) <= 0 and max(means) - min(means) < 1e-9


def _first_and_last(history: History) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    totals = list(history.evaluations.values())
    return (totals[0], totals[-1]) if len(totals) >= 2 and len(history.metrics) >= LONG_ENOUGH else None


def _held_out_is_flat(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """The later accuracy lies within or below the earlier one's interval, and there was something left to gain."""
    return after["accuracy"] <= before.get("accuracy_high", before["accuracy"]) and after["accuracy"] < 0.95


def _accuracies(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return f"held-out accuracy {before['accuracy']:.1%} -> {after['accuracy']:.1%}"


def _rises(values: Sequence[float]) -> bool:
    """The last quarter lies clearly above the first: by three standard errors of their difference."""
    quarter = len(values) // 4
    if len(values) < LONG_ENOUGH:
        return False
    early, late = values[:quarter], values[-quarter:]
    noise = math.sqrt((_variance(early) + _variance(late)) / quarter)
    return fmean(late) - fmean(early) > max(3 * noise, 1e-9)


def _variance(values: Sequence[float]) -> float:
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
