"""The reward curve as a picture, and the doctor's eye for runs that go wrong in silence."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from heron.errors import RunError
from heron.run import History, Run, RunWriter, Watchman, diagnose, examine, reward_curve_svg, sparkline
from heron.run.curve import rewarded_steps, right_answers_svg, span_of
from heron.run.doctor import diagnosis, passed
from heron.run.drawing import BOTTOM, HEIGHT, STYLE, TOP


def run_of(path: Path, steps: list[dict[str, Any]], **accuracies: float) -> Run:
    writer = RunWriter.create(path, config_toml='recipe = "a<b"\n[train]\nseed = 7\n', manifest={})
    for step, values in enumerate(steps, start=1):
        writer.log(step, values)
    for name, accuracy in accuracies.items():
        writer.evaluation(name, [], {"accuracy": accuracy, "problems": 64, "step": 0})
    writer.finish("finished", {})
    return Run(path)


def test_sparkline_has_the_shape_of_its_values() -> None:
    """Constant, missing and not finite values must give a picture instead of a division by zero."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, 1.0]) == "▄▄" and sparkline([]) == "" and sparkline([None, float("nan")]) == ""
    assert sparkline([0.0, None, 1.0]) == "▁ █"
    assert len(sparkline(list(range(1000)), 30)) == 30


def test_the_svg_is_well_formed_self_contained_and_the_same_each_time(tmp_path: Path) -> None:
    """It stands in the README: a name with `<` in it, or a link to elsewhere, would break it; noise would make useless diffs."""
    steps = [{"reward": step / 9, "reward_std": 0.5, "rewards/a<b/mean": 1.0, "rewards/c/mean": -0.5} for step in range(400)]
    run = run_of(tmp_path / "run", steps, before=0.25, after=0.96875)
    picture = reward_curve_svg(run)
    root = ElementTree.fromstring(picture)
    words = " ".join(root.itertext())
    assert "held-out accuracy 25.0 % → 96.9 % on 64 problems" in words and "a<b" in words and "seed 7" in words
    assert "prefers-color-scheme: dark" in picture and "href" not in picture and "url(" not in picture
    curve = next(line for line in root.iter("{http://www.w3.org/2000/svg}polyline") if "total" in line.get("class", ""))
    points = [tuple(map(float, pair.split(","))) for pair in curve.get("points", "").split()]
    assert len(points) <= 300 and points[0][0] < points[-1][0] and points[0][1] > points[-1][1], "it must rise to the right"
    assert picture == reward_curve_svg(run)


def test_a_chart_within_a_page_leaves_the_page_alone(tmp_path: Path) -> None:
    """Prevents: a style sheet inside a page that colours every heading of it, and right answers drawn where none were measured."""
    measured = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "problems": 64}
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
    for step in range(1, 30):
        writer.log(step, {"reward": 1.0, "pass@1": step / 30})
    writer.evaluation("before", [], {**measured, "step": 0})
    writer.finish("finished", {})
    pictures = [reward_curve_svg(Run(tmp_path / "run"), alone=False), right_answers_svg(Run(tmp_path / "run"), alone=False)]
    for picture in pictures:
        assert picture is not None and "<style" not in picture and 'class="heron-chart"' in picture
        ElementTree.fromstring(picture)
    assert str(pictures[1]).count("<circle") == 1
    selectors = [part.strip() for rule in re.findall(r"([^{}]+){", STYLE) for part in rule.split(",")]
    assert all(part.startswith((".heron-chart ", "@media")) for part in selectors)
    assert right_answers_svg(run_of(tmp_path / "none", [{"reward": 1.0}])) is None


def test_the_band_is_whole(tmp_path: Path) -> None:
    """Prevents: one standard deviation, as the picture calls it, that the axis cuts off."""
    run = run_of(tmp_path / "run", [{"reward": step / 10, "reward_std": 3.0} for step in range(10)])
    low, high = span_of(rewarded_steps(run), ["reward"])
    assert (low, high) == (-3.0, pytest.approx(3.9))
    polygon = next(each for each in ElementTree.fromstring(reward_curve_svg(run)).iter("{http://www.w3.org/2000/svg}polygon"))
    heights = [float(pair.split(",")[1]) for pair in polygon.get("points", "").split()]
    assert len(set(heights)) == 20 and min(heights) >= TOP and max(heights) <= HEIGHT - BOTTOM


def test_the_svg_of_a_run_of_one_step_and_of_none(tmp_path: Path) -> None:
    """A run that was stopped at once has no range to scale by."""
    ElementTree.fromstring(reward_curve_svg(run_of(tmp_path / "one", [{"reward": 1.0}])))
    with pytest.raises(RunError, match="no recorded step"):
        reward_curve_svg(run_of(tmp_path / "none", []))


def healthy(step: int, **changed: Any) -> dict[str, Any]:
    noise = random.Random(step).gauss(0, 0.05)
    return {
        "step": step, "reward": step / 40 + noise, "rewards/right/mean": step / 40 + noise, "rewards/right/std": 0.4,
        "groups/with_signal": 0.6, "completions/mean_length": 40.0, "completions/clipped_ratio": 0.02,
        "grad_norm": 0.5, "loss": 0.0, "kl": 0.01,
        "sampling/logp_difference_mean": 1e-6, **changed,
    }  # fmt: skip


def ids(changed: dict[str, Any] | None = None, *, steps: int = 40, **evaluations: dict[str, float]) -> list[str]:
    metrics = [healthy(step, **(changed or {})) for step in range(1, steps + 1)]
    return [alert.id for alert in examine(History(metrics=metrics, evaluations=evaluations))]


def totals(accuracy: float, format_rate: float) -> dict[str, float]:
    return {"accuracy": accuracy, "accuracy_low": accuracy - 0.06, "accuracy_high": accuracy + 0.06, "format_rate": format_rate}


def test_a_healthy_run_gives_no_alert() -> None:
    """A doctor that always finds something is not listened to."""
    assert ids() == [] and ids(steps=1) == []
    assert ids(before=totals(0.3, 0.6), after=totals(0.9, 1.0)) == []
    assert examine(History(metrics=[])) == ()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"loss": None}, ["not-finite"]),
        ({"loss": float("nan")}, ["not-finite"]),
        ({"groups/with_signal": 0.03}, ["no-signal"]),
        ({"groups/with_signal": 0.03, "groups/all_right": 0.9}, []),
        ({"groups/one_scorable": 0.4}, ["lonely-rollouts"]),
        ({"completions/clipped_ratio": 0.97}, ["truncation"]),
        ({"rewards/right/mean": 0.0, "rewards/right/std": 0.0}, ["dead-reward"]),
        ({"rewards/found/mean": 1.0, "rewards/found/std": 0.0}, []),
        ({"sampling/logp_difference_mean": 0.1}, ["sampler-mismatch"]),
    ],
)
def test_each_silent_failure_is_named(changed: dict[str, Any], expected: list[str]) -> None:
    """Each of these has run for hours at peers without an error; success (all right, all found) must not look like one of them."""
    assert ids(changed) == expected


def test_format_learnt_but_not_the_answer() -> None:
    """The reward rises all along, so the curve alone looks like success."""
    found = ids(before=totals(0.3, 0.4), after=totals(0.31, 0.98))
    assert found == ["format-only", "reward-without-accuracy"], "the cause first"
    assert ids(before=totals(0.3, 0.98), after=totals(0.31, 0.98)) == ["reward-without-accuracy"]


def test_answers_that_shrink_without_getting_better() -> None:
    """Ending at once is the cheapest way out of a length limit; shorter and better is no fault."""
    shrinking = [healthy(step, reward=0.1, **{"completions/mean_length": 40.0 - step * 0.9}) for step in range(1, 41)]
    better = [healthy(step, **{"completions/mean_length": 40.0 - step * 0.9}) for step in range(1, 41)]
    assert [alert.id for alert in examine(History(metrics=shrinking))] == ["length-collapse"]
    assert examine(History(metrics=better)) == ()


def test_a_gradient_that_jumps() -> None:
    """A spike is the first sign of a run that will not recover."""
    metrics = [healthy(step, grad_norm=0.5 if step < 40 else 9.0) for step in range(1, 41)]
    assert [alert.id for alert in examine(History(metrics=metrics))] == ["gradient-spike"]


def test_diagnose_reads_a_run_and_every_alert_helps(tmp_path: Path) -> None:
    """An alert without figures or advice only worries."""
    run = run_of(tmp_path / "run", [healthy(step, **{"completions/clipped_ratio": 0.97}) for step in range(1, 12)])
    (alert,) = diagnose(run)
    assert "97%" in alert.evidence and "max_completion_length" in alert.advice


@pytest.mark.parametrize(
    ("status", "from_python", "words"),
    [("failed", False, "heron resume"), ("interrupted", False, "heron resume"), ("interrupted", True, "heron.resume(")],
)
def test_a_run_that_ended_early_does_not_look_well(tmp_path: Path, status: str, from_python: bool, words: str) -> None:
    """The doctor found nothing wrong with a run that had crashed."""
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={"rewards_from_python": from_python})
    writer.log(1, {"reward": 1.0, "loss": None})
    writer.finish(status, {"error": "RewardError: \x1b[2J" + "x" * 5000} if status == "failed" else {"error": "KeyboardInterrupt: "})
    first, *others = diagnose(Run(tmp_path / "run"))
    assert first.id == status and words in first.advice and "after 1 step:" in first.evidence
    assert ("RewardError" in first.evidence) == (status == "failed")
    assert len(first.evidence) < 500 and "\x1b" not in first.evidence
    assert [alert.id for alert in others] == ["not-finite"]


def test_a_killed_run_is_said_to_be_interrupted(tmp_path: Path) -> None:
    """A kill leaves no summary, so there is no error to quote."""
    RunWriter.create(tmp_path / "run", config_toml="", manifest={}).close()
    assert [(alert.id, alert.evidence) for alert in diagnose(Run(tmp_path / "run"))] == [
        ("interrupted", "it ended after 0 steps, with no error recorded")
    ]


def test_what_looked_wrong_for_a_while_is_told_after_what_does_now(tmp_path: Path) -> None:
    """Prevents: "Nothing looks wrong" about a run that lost a step to a number that was not finite, and nearly filled the disk."""
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
    writer.subscribe(Watchman(writer))
    for step in range(1, 11):
        writer.log(step, healthy(step, loss=None if step == 4 else 0.1))
    writer.event("checkpoint", step=10, path="step-000010", bytes=2**31, free_bytes=2**30)
    writer.finish("finished", {})
    run = Run(tmp_path / "run")
    standing = diagnose(run)
    assert [alert.id for alert in standing] == ["disk"]
    (gone,) = passed(run, standing)
    assert (gone.alert.id, gone.step) == ("not-finite", 4) and "step 4: loss" in gone.alert.evidence and gone.alert.advice
    told = diagnosis(run)
    assert [alert["id"] for alert in told["alerts"]] == ["disk"]
    assert [(one["id"], one["step"]) for one in told["passed"]] == [("not-finite", 4)]
