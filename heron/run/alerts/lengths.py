"""What can be wrong with the length of answers."""

from __future__ import annotations

from heron.run.alerts.history import LONG_ENOUGH, WINDOW, Alert, History, rises
from heron.run.alerts.waiting import may_only_follow

SQUEEZED = 0.3
"""Share of cut answers above which there are many."""


def truncation(history: History) -> Alert | None:
    """Many answers are cut off at the token limit; or many were at first, and what was learnt is to be brief instead of right."""
    start, now = history.start("completions/clipped_ratio"), history.now("completions/clipped_ratio")
    if start is None or now is None:
        return None
    was_squeezed = start > SQUEEZED and history.steps >= LONG_ENOUGH and not history.is_mastered() and not rises(history.skill())
    if (now <= SQUEEZED and not was_squeezed) or may_only_follow(history, "completions/clipped_ratio", lambda share: share > SQUEEZED):
        return None
    return Alert(
        id="truncation",
        title="Many completions are cut off",
        evidence=f"in the last {WINDOW} steps {now:.0%} of them reached the token limit" if now > SQUEEZED else
        f"in the first {WINDOW} steps {start:.0%} of them reached the token limit; they are short now, but no more often right",
        advice="Raise rollout.max_completion_length. If they never end by themselves, check the model's end token and chat template.",
    )


def never_ends(history: History) -> Alert | None:
    """Not one answer ended of its own accord since the start."""
    key, course = "completions/clipped_ratio", history.course
    if course.count.get(key, 0) < WINDOW or course.low[key] < 1:
        return None
    limit = course.high.get("completions/max_length")
    return Alert(
        id="never-ends",
        title="No answer ever ends by itself",
        evidence=f"all answers of {course.count[key]} steps were cut off" + (f" at {limit:.0f} tokens" if limit else ""),
        advice="If that limit is long enough for an answer, the model does not sample the end token that is waited for: check its "
        "generation_config.json and chat template.",
    )


def length_collapse(history: History) -> Alert | None:
    """Answers became much shorter and were not paid better for it."""
    start, now = _lengths(history)
    if now >= 0.4 * start or rises(history.values("reward")):
        return None
    return Alert(
        id="length-collapse",
        title="Answers are getting short without getting better",
        evidence=f"mean length {start:.0f} -> {now:.0f} tokens while the reward did not rise",
        advice="Check that no reward pays for ending early, and try a lower train.learning_rate or objective.beta above 0.",
    )


def length_creep(history: History) -> Alert | None:
    """Answers became much longer and are no more often right."""
    start, now = _lengths(history)
    if now <= 2 * start or rises(history.skill()):
        return None
    return Alert(
        id="length-creep",
        title="Answers are getting long without getting better",
        evidence=f"mean length {start:.0f} -> {now:.0f} tokens, and right answers are no more frequent",
        advice="Does a reward pay for length? Try objective.loss_type = 'dr_grpo', which gives long answers no bonus, or "
        "a reward that asks for shorter ones.",
    )


def _lengths(history: History) -> tuple[float, float]:
    """Mean length at the start and now; equal while that is too early to say."""
    start, now = history.start("completions/mean_length"), history.now("completions/mean_length")
    return (start, now) if start is not None and now is not None and history.steps >= LONG_ENOUGH else (1.0, 1.0)
