"""The page while a run is written, killed, resumed, and while its server comes and goes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import begin, write_step

from heron.dashboard.server import Dashboard
from heron.run import RunWriter

Visit = Callable[..., Any]
Writing = tuple[str, subprocess.Popen[str]]
STEP = "() => Number(document.querySelector('#head .progress b')?.textContent.replace('step ', ''))"


@pytest.fixture
def writing(runs: Path, request: pytest.FixtureRequest) -> Iterator[Writing]:
    """Another process that records ten steps a second."""
    program, environment = Path(__file__).parents[1] / "recorded.py", {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    name = f"live-{request.node.name[5:20]}"
    process = subprocess.Popen([sys.executable, program, runs / name, "0.1"], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    yield name, process
    process.kill()
    process.wait()


def test_a_run_grows_before_one_s_eyes_and_its_death_is_seen(visit: Visit, writing: Writing) -> None:
    """A page that must be reloaded is not live; one that still says `training` of a killed run is wrong."""
    page = visit(writing[0], "now")
    assert page.inner_text("#head .pill") == "training"
    seen = page.evaluate(STEP)
    page.wait_for_function(f"step => ({STEP})() >= step + 15", arg=seen, timeout=15000)
    drawn = "() => document.querySelector('.plot').data.find((trace) => trace.line?.width > 2).x.at(-1)"
    page.wait_for_function(f"step => ({drawn})() >= step + 10", arg=seen)
    steps = page.evaluate("() => document.querySelector('.plot').data.find((trace) => trace.line?.width > 2).x")
    assert steps == list(range(1, len(steps) + 1)), "no step is missing from the curve, none is drawn twice"
    writing[1].kill()
    page.wait_for_selector("#head .pill.interrupted")
    assert "heron resume" in page.inner_text("#head")


def test_the_newest_groups_are_followed_until_one_reads_an_older_step(visit: Visit, writing: Writing) -> None:
    """A list that jumps away while one reads is as bad as one that stands still."""
    page = visit(writing[0], "groups")
    before = int(page.input_value("[aria-label=step]"))
    page.wait_for_function("step => Number(document.querySelector('[aria-label=step]').value) > step", arg=before)
    page.get_by_label("previous step").click()
    page.wait_for_function("() => !document.querySelector('.groups label input').checked")
    stays, most = page.input_value("[aria-label=step]"), int(page.get_attribute("[aria-label=step]", "max"))
    page.wait_for_function("most => Number(document.querySelector('[aria-label=step]').max) > most + 5", arg=most)
    assert page.input_value("[aria-label=step]") == stays


def test_a_resumed_run_loses_the_steps_that_were_taken_back(visit: Visit, runs: Path) -> None:
    """Two futures in one curve."""
    first = begin(runs / "resumed")
    for step in range(1, 9):
        write_step(first, step)
    page = visit("resumed", "now")
    page.wait_for_function(f"() => ({STEP})() === 8")
    first.close()
    again = RunWriter.reopen(runs / "resumed", last_step=4)
    again.log(5, {"reward": -7.0, "reward_std": 0.0})
    page.wait_for_function(f"() => ({STEP})() === 5")
    page.wait_for_function("() => document.querySelector('.plot').data.find((trace) => trace.line?.width > 2).x.at(-1) === 5")
    assert page.evaluate("() => document.querySelector('.plot').data.find((trace) => trace.line?.width > 2).y.at(-1)") == -7
    again.close()


def test_a_run_that_begins_appears_in_the_list(visit: Visit, runs: Path) -> None:
    """The page is opened first, and the run is started then."""
    page = visit("good", "now")
    begin(runs / "later").close()
    page.wait_for_selector("#runs a[data-run=later]")


def test_a_server_that_stops_is_said_and_found_again(browser: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that looks alive while its server is gone shows old figures as new ones."""
    from browsing import open_page, settled

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = Dashboard(runs, token="one")
    first.start()
    page, _ = open_page(browser, first.url)
    settled(page, "now")
    first.close()
    page.wait_for_selector("#trouble:not([hidden])")
    assert "does not answer" in page.inner_text("#trouble")
    again = Dashboard(runs, token="one", port=int(page.url.split(":")[2].split("/")[0]))
    again.start()
    page.wait_for_selector("#trouble[hidden]", state="attached", timeout=15000)
    page.context.close()
    again.close()
