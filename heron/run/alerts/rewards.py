"""What can be wrong with the rewards: they tell nothing apart, they fail, or they teach something other than the task."""

from __future__ import annotations

from heron.run.alerts.history import (
    LONG_ENOUGH,
    WINDOW,
    Alert,
    History,
    accuracies,
    first_and_last,
    held_out_is_flat,
    held_out_rose,
    rises,
)
from heron.run.averages import mean

LEARNT = 0.9
"""Share of answers in the asked format from which on it counts as learnt."""
SILENT = 0.99
"""Share of None from which on a function says nothing; what it says of the others is too little to learn from."""


def unscored(history: History) -> Alert | None:
    """Answers were left without a reward: a function failed at them, or all had nothing to say."""
    now = history.now("frac_rollouts_unscored")
    if now is None or now <= 0.01:
        return None
    return Alert(
        id="unscored-rollouts",
        title="Answers could not be scored",
        evidence=f"in the last {WINDOW} steps {now:.1%} of the rollouts were left out: a reward function failed, or all returned None",
        advice="The reason stands beside each of them among the recorded rollouts. Mend the function: what is left out teaches nothing.",
    )


def silent_reward(history: History) -> Alert | None:
    """A reward function returns None for nearly all answers: it always has, or at the start it gave most of them a score."""
    silent = [name for name in history.reward_names() if _is_silent(history, f"rewards/{name}/none")]
    if not silent:
        return None
    return Alert(
        id="silent-reward",
        title="A reward function has nothing to say",
        evidence=f"in the last {LONG_ENOUGH} steps {', '.join(silent)} returned None for nearly every answer",
        advice="If it is meant for a few rows alone, this is fine. Else look at its conditions, and at the columns that it reads.",
    )


def constant_rewards(history: History) -> Alert | None:
    """Every answer of every step earned the same."""
    steps = history.course.count.get("reward_std", 0)
    if steps < WINDOW or not _is_constant(history, "reward", "reward_std") or history.is_mastered():
        return None
    return Alert(
        id="constant-reward",
        title="Every answer earns the same",
        evidence=f"the reward was {history.course.low['reward']:g} for every answer of {steps} steps",
        advice="Nothing can be learnt from a constant. Try the reward functions on a right and on a wrong answer (`heron check`): do they "
        "tell them apart?",
    )


def dead_reward(history: History) -> Alert | None:
    """A reward function gave every answer since the start the same, 0 or less. (Above 0 all may have earned it. One that is known to take
    away only, such as `shaping.overlong`, is well at 0.)"""
    dead = [name for name in history.reward_names() if _never_pays(history, name)]
    if not dead:
        return None
    course = history.course
    scores = ", ".join(f"{name} = {course.low[f'rewards/{name}/mean']:g} ({course.count[f'rewards/{name}/mean']} steps)" for name in dead)
    is_at_best = all(course.low[f"rewards/{name}/mean"] == 0 for name in dead)
    return Alert(
        id="dead-reward",
        title="A reward function never pays",
        evidence=f"every answer that it applied to scored {scores}",
        advice=("If it only takes away, and nothing was to be taken, this is fine. Else r" if is_at_best else "R")
        + "ead some rollouts: does the function find the answer where the model writes it, tags and number format included?",
    )


def reward_without_accuracy(history: History) -> Alert | None:
    """The reward rose while held-out accuracy did not: it may be earned in a way that was not meant."""
    pair = first_and_last(history)
    if pair is None or not rises(history.values("reward")) or not held_out_is_flat(*pair):
        return None
    rewards = history.values("reward")
    return Alert(
        id="reward-without-accuracy",
        title="The reward rises, held-out accuracy does not",
        evidence=f"reward {mean(rewards[:WINDOW]):.2f} -> {mean(rewards[-WINDOW:]):.2f}, {accuracies(*pair)}",
        advice="Read the rollouts with the highest reward: what are they paid for? Check the verifier, then the weights of the rewards.",
    )


def format_only(history: History) -> Alert | None:
    """The answers took on the format but are no more often right, on held-out problems or on the training problems; or right and wrong ones
    earn the same for it."""
    evidence = _on_held_out(history) or _in_training(history) or _paid_alike(history)
    if evidence is None:
        return None
    return Alert(
        id="format-only",
        title="The format was learnt, the answer was not",
        evidence=evidence,
        advice="Lower the weight of the format rewards, or let them count only where the answer is right. If nothing pays for a right "
        "answer, add a reward that does.",
    )


def one_function(history: History) -> Alert | None:
    """One of several reward functions makes all the difference between siblings, and the answers do not get better."""
    shares = {name: share for name in history.reward_names() if (share := history.now(f"rewards/{name}/share")) is not None}
    if len(shares) < 2 or history.steps < LONG_ENOUGH or history.is_mastered() or rises(history.skill()):
        return None
    pair = first_and_last(history)
    if pair is not None and held_out_rose(*pair):
        return None
    name, share = max(shares.items(), key=lambda pair: pair[1])
    if share <= 0.95:
        return None
    return Alert(
        id="one-reward-decides",
        title="One reward function makes all the difference",
        evidence=f"in the last {WINDOW} steps {share:.0%} of the variance between siblings came from {name}, and right answers are not "
        "clearly more frequent than at the start",
        advice="The model is taught this function alone. If it is not the one that pays for right answers, lower its weight.",
    )


def judge_budget(history: History) -> Alert | None:
    """A judge has used most of what it may."""
    spent = {key: value for key, value in history.last.items() if key.endswith("_budget_used") and value is not None and value > 0.8}
    if not spent:
        return None
    key, value = max(spent.items(), key=lambda pair: pair[1])
    return Alert(
        id="judge-budget",
        title="The judge's budget is nearly used up",
        evidence=f"{key.removeprefix('logged/').removesuffix('_budget_used')} has used {value:.0%} of judge.max_spend_tokens",
        advice="The run stops when it is used up, and can be resumed. Raise judge.max_spend_tokens to go on without a pause.",
    )


def _on_held_out(history: History) -> str | None:
    pair = first_and_last(history)
    if pair is None or any(totals.get("format_rate") is None for totals in pair):
        return None
    before, after = pair
    if after["format_rate"] < max(LEARNT, before["format_rate"] + 0.1) or not held_out_is_flat(before, after):
        return None
    return f"held-out format {before['format_rate']:.0%} -> {after['format_rate']:.0%}, {accuracies(before, after)}"


def _in_training(history: History) -> str | None:
    """Judged after fifty steps, by the share of right answers among the readable ones, which the format alone does not raise."""
    formats, skill = history.values("completions/format_rate"), history.skill()
    if len(skill) < 50 or not rises(formats) or history.is_mastered() or rises(skill):
        return None
    start, now = mean(formats[:WINDOW]), mean(formats[-WINDOW:])
    right = f"{mean(skill[:WINDOW]):.1%} -> {mean(skill[-WINDOW:]):.1%}"
    return None if now < LEARNT else f"format {start:.0%} -> {now:.0%}, right among the readable {right}"


def _paid_alike(history: History) -> str | None:
    """Judged at once, by the groups that have right and wrong answers and no difference in reward: what pays does not see what is right."""
    start, now = history.start("completions/format_rate"), history.now("completions/format_rate")
    mixed, signal = history.now("groups/mixed"), history.now("groups/with_signal")
    if start is None or now is None or mixed is None or signal is None:
        return None
    if now < max(LEARNT, start) or signal >= 0.3 or mixed - signal <= 0.3:
        return None
    return (f"format {start:.0%} -> {now:.0%}; in the last {WINDOW} steps {mixed:.0%} of the groups had both right and wrong answers, and "
            f"{signal:.0%} had siblings with unequal rewards")


def _never_pays(history: History, name: str) -> bool:
    key, course = f"rewards/{name}/mean", history.course
    if course.count.get(key, 0) < 2 * WINDOW or not _is_constant(history, key, f"rewards/{name}/std"):
        return False
    return course.high[key] < 0 or (course.high[key] == 0 and name not in history.penalties)


def _is_constant(history: History, mean: str, spread: str) -> bool:
    """The same for every answer of every step."""
    course = history.course
    return course.high.get(spread, 1.0) < 1e-9 and course.high[mean] - course.low[mean] < 1e-9


def _is_silent(history: History, key: str) -> bool:
    newest, first = history.newest(key, LONG_ENOUGH), history.start(key)
    if len(newest) < LONG_ENOUGH or mean(newest) < SILENT or first is None:
        return False
    return first < 0.5 or mean(history.values(key)) >= SILENT
