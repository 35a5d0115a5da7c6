"""Each alert fires on the fault it is named after, and on nothing that a healthy run does."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from heron.run.alerts import CHECKS, History, examine
from heron.run.alerts.course import PIECES, Course
from heron.run.alerts.history import TAIL, rises

Step = Callable[[int], Mapping[str, Any]]


def healthy(step: int, steps: int = 60) -> dict[str, Any]:
    """A run that learns: right answers from 20 % to 80 %, the format first, the entropy falling."""
    draw = random.Random(step)
    along = step / steps
    right = 0.2 + 0.6 * along + draw.gauss(0, 0.03)
    return {
        "step": step, "reward": right + draw.gauss(0, 0.05), "reward_std": 0.4, "pass@1": right,
        "completions/unreadable": 0.3 * (1 - along),
        "rewards/right/mean": right, "rewards/right/std": 0.4, "rewards/right/share": 0.6 + 0.38 * along,
        "rewards/form/mean": 0.7 + 0.3 * along, "rewards/form/std": 0.3, "rewards/form/share": 0.4 - 0.38 * along,
        "groups/with_signal": 0.6, "groups/one_scorable": 0.0, "groups/all_right": 0.3 * along, "frac_rollouts_unscored": 0.0,
        "completions/mean_length": 40.0 + draw.gauss(0, 2), "completions/max_length": 60, "completions/clipped_ratio": 0.02,
        "completions/format_rate": 0.7 + 0.3 * along, "completions/duplicates": 0.1, "entropy": 0.5 - 0.4 * along,
        "grad_norm": 0.5 + abs(draw.gauss(0, 0.1)), "loss": 0.0, "kl": 0.05, "clip_ratio/region_mean": 0.01, "learning_rate": 1e-4,
        "sampling/logp_difference_mean": 1e-6,
    }  # fmt: skip


def ids(changed: Step = lambda step: {}, *, steps: int = 60, **history: Any) -> list[str]:
    metrics = [{**healthy(step, steps), **changed(step)} for step in range(1, steps + 1)]
    return [alert.id for alert in examine(History(metrics=metrics, **history))]


def flat(**values: Any) -> Step:
    """These values in every step, beside right answers that stay at a fifth."""
    stuck = {"pass@1": 0.2, "completions/unreadable": 0.1, "groups/all_right": 0.0, "completions/format_rate": 1.0, "entropy": 0.4,
             "rewards/right/share": 0.6, "rewards/form/share": 0.4}
    return lambda step: {**stuck, "reward": 0.2 + random.Random(step).gauss(0, 0.02), **values}


def named(**values: Any) -> Step:
    keys = {"format": "completions/format_rate", "length": "completions/mean_length", "clipped": "completions/clipped_ratio",
            "signal": "groups/with_signal", "right": "pass@1", "unscored": "frac_rollouts_unscored", "equal": "completions/duplicates"}
    return flat(**{keys.get(key, key): value for key, value in values.items()})


FAULTS: dict[str, Step] = {
    "not-finite": lambda step: {"loss": None},
    "unscored-rollouts": lambda step: {"frac_rollouts_unscored": 0.05},
    "silent-reward": lambda step: {"rewards/judge/none": 1.0},
    "constant-reward": flat(reward=1.0, reward_std=0.0),
    "reward-collapse": lambda step: {"reward": (1.5 if step < 20 else -1.0) + random.Random(step).gauss(0, 0.05)},
    "entropy-explosion": lambda step: {**flat()(step), "entropy": 0.4 + 0.1 * step},
    "truncation": lambda step: {"completions/clipped_ratio": 0.5},
    "never-ends": lambda step: {"completions/clipped_ratio": 1.0},
    "dead-reward": lambda step: {"rewards/right/mean": 0.0, "rewards/right/std": 0.0},
    "format-only": lambda step: {**flat()(step), "completions/format_rate": min(1.0, 0.4 + step / 50)},
    "one-reward-decides": flat(**{"rewards/form/share": 0.98, "rewards/right/share": 0.02}),
    "never-right": named(right=0.0),
    "duplicate-completions": named(equal=0.7, signal=0.2),
    "entropy-collapse": flat(entropy=0.003),
    "no-signal": named(signal=0.03),
    "lonely-rollouts": lambda step: {"groups/one_scorable": 0.4},
    "length-collapse": lambda step: {**flat()(step), "completions/mean_length": max(5.0, 60.0 - step)},
    "length-creep": lambda step: {**flat()(step), "completions/mean_length": 40.0 + step},
    "large-kl": lambda step: {"kl": 4.0},
    "much-clipped": lambda step: {"clip_ratio/region_mean": 0.4},
    "sampler-mismatch": lambda step: {"sampling/logp_difference_mean": 0.1},
    "gradient-spike": lambda step: {"grad_norm": 0.5 if step < 60 else 20.0},
    "judge-budget": lambda step: {"logged/judge_budget_used": 0.9},
    "out-of-memory": lambda step: {"memory/halved": 1.0},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_and_first(fault: str) -> None:
    """Prevents: an alert that cannot fire, or that drowns in what follows from the same fault."""
    found = ids(FAULTS[fault])
    assert fault in found
    assert found[0] == fault or fault in ("never-ends", "reward-without-accuracy"), found


def test_every_check_has_a_fault_that_fires_it() -> None:
    """Prevents: a new alert without a test."""
    elsewhere = {"reward-without-accuracy", "disk"}  # below
    assert set(FAULTS) | elsewhere == set(CHECKS)


def test_a_healthy_run_gives_no_alert_at_any_step() -> None:
    """A doctor that always finds something is not listened to."""
    assert ids() == []
    metrics = [healthy(step) for step in range(1, 61)]
    assert [examine(History(metrics=metrics[:step])) for step in range(61)] == [()] * 61


def test_a_mastered_task_is_no_fault() -> None:
    """All right, all alike, no signal, little entropy: that is the goal."""
    done = {"pass@1": 0.98, "groups/all_right": 0.9, "groups/with_signal": 0.02, "completions/duplicates": 0.8, "entropy": 0.002,
            "rewards/right/share": 0.99}
    assert ids(lambda step: done if step > 30 else {}) == []


def test_a_nearly_full_disk() -> None:
    """Prevents: a run of hours that ends at a checkpoint which does not fit."""
    assert ids(checkpoint={"bytes": 100, "free_bytes": 199}) == ["disk"]
    assert ids(checkpoint={"bytes": 100, "free_bytes": 200}) == []


def test_one_function_that_decides_and_teaches() -> None:
    """Prevents: "answers do not get better" beside a held-out accuracy that rose; the steps of a short run are too few to tell."""
    decides = flat(**{"rewards/form/share": 0.02, "rewards/right/share": 0.98})
    before = {"accuracy": 0.3, "accuracy_high": 0.43}
    assert ids(decides, evaluations={"before": before, "after": {"accuracy": 0.85}}) == []
    for after in ({"accuracy": 0.35}, {}):
        assert ids(decides, evaluations={"before": before, "after": after}) == ["one-reward-decides"]


def test_reward_that_rises_without_accuracy() -> None:
    before, after = ({"accuracy": 0.3, "accuracy_high": 0.36, "format_rate": 0.9} for _ in range(2))
    assert ids(evaluations={"before": before, "after": after}) == ["reward-without-accuracy"]
    assert ids(evaluations={"before": before, "after": {**after, "accuracy": 0.5}}) == []
    assert ids(evaluations={"before": {}, "after": {}}) == [], "an evaluation without references has no accuracy"


def test_a_long_run_costs_no_more_to_look_at() -> None:
    """Prevents: a run whose steps take ever longer because all of its past is examined after each."""
    metrics = [healthy(step, 100_000) for step in range(1, 20_001)]
    course = Course(metrics)
    begun = time.process_time()
    examine(History(metrics=metrics[-TAIL:], course=course))
    assert time.process_time() - begun < 0.1


def reward(name: str, mean: float, std: float = 0.0) -> dict[str, float]:
    return {f"rewards/{name}/mean": mean, f"rewards/{name}/std": std, f"rewards/{name}/none": 0.0}


def test_a_penalty_that_has_nothing_to_take_is_well() -> None:
    """Prevents: a warning at every healthy run whose answers are short enough, as `shaping.overlong` asks."""
    unused = reward("overlong", 0.0)
    assert ids(lambda step: unused, penalties={"overlong"}) == []
    assert ids(lambda step: reward("own", -0.1 if step < 3 else 0.0, 0.2 if step < 3 else 0.0)) == [], "it was seen to take away"
    assert ids(lambda step: reward("overlong", -1.0), penalties={"overlong"}) == ["dead-reward"], "it takes the same from all"
    metrics = [healthy(step) | unused for step in range(1, 20)]
    (alert,) = examine(History(metrics=metrics))
    assert alert.id == "dead-reward" and "overlong = 0 (19 steps)" in alert.evidence and "only takes away" in alert.advice


def test_a_function_that_the_newest_step_lacks_is_known() -> None:
    """Prevents: a dead reward that is forgotten because its rows did not come up in the last step."""
    assert ids(lambda step: reward("rare", 0.0) if step < 60 else {}) == ["dead-reward"]


def test_a_function_without_a_word_is_told_and_one_for_some_rows_is_not() -> None:
    """Prevents: a judge that answers None to everything, unnoticed since another function scores the same answers."""
    assert ids(lambda step: {"rewards/judge/none": 1.0}, steps=19) == []
    assert ids(lambda step: {"rewards/judge/none": 1.0}) == ["silent-reward"]
    assert ids(lambda step: {"rewards/judge/none": 1.0 if step > 30 else 0.1}) == ["silent-reward"], "it fell silent"
    assert ids(lambda step: {"rewards/judge/none": 0.9 if step % 3 else 1.0}) == []
    assert ids(lambda step: {"rewards/judge/none": 0.6 if step < 30 else 1.0}) == [], "its rows may have come first"


def test_never_means_never_in_a_long_run() -> None:
    """Prevents: "no answer was ever right", of a run whose middle was forgotten; and a count of the steps that were kept."""
    def step(number: int) -> dict[str, Any]:
        right = 0.5 if 200 <= number < 300 else 0.0
        return {"step": number, "reward": right, "reward_std": 0.2, "pass@1": right, "groups/with_signal": 0.5,
                **reward("right", right, 0.3 if right else 0.0), **reward("dead", 0.0)}

    metrics = [step(number) for number in range(1, 901)]
    for history in (History(metrics=metrics), History(metrics=metrics[-TAIL:], course=Course(metrics))):
        found = {alert.id: alert.evidence for alert in examine(history)}
        assert "never-right" not in found and "constant-reward" not in found
        assert "dead = 0 (900 steps)" in found["dead-reward"] and "right =" not in found["dead-reward"]
    never = {alert.id: alert.evidence for alert in examine(History(metrics=metrics[:190]))}
    assert "each of 190 steps" in never["never-right"]


def test_a_trend_of_a_long_run_is_that_of_all_of_it() -> None:
    """Prevents: a run that learnt for a thousand steps, and is said to have learnt nothing since its newest ones are level."""
    metrics = [{"step": step, "pass@1": min(0.6, step / 2000) + random.Random(step).gauss(0, 0.05)} for step in range(1, 2001)]
    course = Course(metrics)
    assert rises(course.values("skill")) and len(course.values("pass@1")) < PIECES
    assert not rises([record["pass@1"] for record in metrics[-TAIL:]]), "and its newest steps alone do not show it"
    assert Course(metrics[:100]).values("pass@1") == [m["pass@1"] for m in metrics[:100]]


def test_a_number_that_cannot_be_reckoned_with_ends_nothing() -> None:
    """Prevents: a watchman that is switched off, and `--strict` with it, by a reward whose square is beyond every float."""
    assert "reward-collapse" not in ids(lambda step: {"reward": 1e200 * (-1) ** step})
    assert ids(lambda step: {"reward": None, "pass@1": float("nan")} if step == 20 else {}) == []
    nothing = {"accuracy": None, "format_rate": None}
    assert ids(evaluations={"before": nothing, "after": nothing}) == []
