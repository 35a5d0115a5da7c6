"""Charts say what was recorded and nothing else: no made-up axes, no line where nothing was measured, no spike that hides the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorded import begin, evaluate, record

Visit = Callable[..., Any]
TICKS = "() => [...document.querySelectorAll('.plot .xtick text')].map((one) => one.textContent)"
TOP = "() => Math.max(...document.querySelectorAll('.chart:has(h3)')[4].querySelector('.plot').layout.yaxis.range)"


def test_without_a_value_there_is_no_grid(visit: Visit, runs: Path) -> None:
    """Axes from -1 to 6 of a number that was never there."""
    writer = begin(runs / "nothing")
    for step in (1, 2):
        writer.log(step, {"reward": None, "pass@1": float("nan"), "time/step": 1.0})
    writer.finish("finished", {})
    page = visit("nothing", "rewards")
    right = page.locator(".chart").nth(2)
    assert "not recorded" in right.inner_text() and page.locator(".chart").nth(2).locator(".main-svg").count() == 0
    empty = begin(runs / "blank")
    empty.finish("failed", {"error": "lost"})
    (runs / "blank" / "events.jsonl").write_text("")
    page = visit("blank", "now")
    assert page.locator(".plot .main-svg").count() == 0 and "not recorded" in page.inner_text(".chart")
    assert "Nothing looks wrong" not in page.inner_text("#screen") and "no step yet" in page.inner_text(".luck")


def test_few_steps_have_a_tick_each(visit: Visit, runs: Path) -> None:
    """0 0 0 1 1 2 2."""
    for steps in (1, 3):
        record(runs / f"few-{steps}", steps=steps)
        ticks = visit(f"few-{steps}", "now").evaluate(TICKS)
        assert ticks and len(set(ticks)) == len(ticks), ticks


def test_a_spike_is_left_out_said_and_shown_when_asked_for(visit: Visit, runs: Path) -> None:
    """A single gradient of 5000 makes a flat line of all others."""
    writer = begin(runs / "spike", steps=60)
    for step in range(1, 61):
        writer.log(step, {"reward": 1.0, "grad_norm": 5000.0 if step == 30 else 0.2 + step % 5 / 50, "time/step": 1.0})
    writer.finish("finished", {})
    page = visit("spike", "health")
    chart = page.locator(".chart", has=page.get_by_role("heading", name="Gradient"))
    assert "Beyond the axis: up to 5000" in chart.inner_text() and page.evaluate(TOP) < 1
    drawn = "[...document.querySelectorAll('.plot')].flatMap((one) => one.data ?? [])"
    assert page.evaluate(f"{drawn}.filter((one) => one.marker?.symbol?.[0] === 'triangle-up').map((one) => one.x)") == [[30]]
    chart.get_by_role("button", name="full range").click()
    page.wait_for_function(f"() => ({TOP})() > 4000")
    assert chart.get_by_role("button", name="full range").get_attribute("aria-pressed") == "true"
    assert page.locator(".outside:visible").count() == 1, "and nothing is said where there is no spike"


def test_a_climb_is_no_spike(visit: Visit, runs: Path) -> None:
    """What was learnt in the first twentieth of a run is the whole story."""
    writer = begin(runs / "climb", steps=400)
    for step in range(1, 401):
        writer.log(step, {"reward": min(1.0, step / 15) * 5 - 4 + step % 2 / 50, "time/step": 1.0})
    writer.finish("finished", {})
    page = visit("climb", "now")
    assert page.locator(".outside:visible").count() == 0


def test_between_two_measurements_far_apart_there_is_no_line(visit: Visit, runs: Path) -> None:
    """A dotted line from before to after reads as a climb that somebody has watched."""
    mode = "() => document.querySelector('.plot').data.find((one) => one.marker?.symbol === 'diamond').mode"
    assert visit("good", "now").evaluate(mode) == "markers"
    writer = begin(runs / "thrice", steps=2)
    writer.log(1, {"reward": 1.0, "time/step": 1.0})
    evaluate(writer, "step-1", 1)
    writer.log(2, {"reward": 1.0, "time/step": 1.0})
    evaluate(writer, "after", 2)
    writer.finish("finished", {})
    assert visit("thrice", "now").evaluate(mode) == "lines+markers"


def test_better_is_green_only_where_chance_is_ruled_out_and_a_difference_is_seen(visit: Visit, runs: Path) -> None:
    """0 % to 0 % in green."""
    assert visit("good", "now").locator(".change.better").count() == 1
    record(runs / "same", steps=12, rate=1e-6)
    page = visit("same", "now")
    assert page.locator(".change").count() == 3 and page.locator(".change.better, .change.worse").count() == 0
