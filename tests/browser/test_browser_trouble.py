"""What goes wrong is said as what it is, no longer than it is so, and takes nothing else with it."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import recorded
from browsing import open_page, settled
from recorded import begin, record, write_step

from heron.dashboard.server import Dashboard

Visit = Callable[..., Any]
Serve = Callable[[Path], Dashboard]
TROUBLE = "() => document.querySelector('#trouble').hidden ? null : document.querySelector('#trouble').textContent"


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A dashboard over a folder of its own."""
    made = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def make(folder: Path) -> Dashboard:
        made.append(Dashboard(folder))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_name_that_is_no_text_is_listed_with_the_others_and_can_be_opened(browser: Any, serve: Serve, tmp_path: Path) -> None:
    """One folder from an old disk, and the list is empty."""
    record(tmp_path / "good", steps=2)
    record(Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sultat")), steps=3)
    page, complaints = open_page(browser, serve(tmp_path).url)
    page.wait_for_selector("#runs a >> nth=1")
    page.locator("#runs a", has_text="sultat").click()
    page.wait_for_function("() => document.querySelector('#head h1')?.textContent.endsWith('sultat')")
    settled(page, "now")
    assert "step 3" in page.inner_text("#head") and page.locator("#runs a[aria-current]").count() == 1
    assert complaints.none(), complaints
    page.context.close()


def test_a_bare_percent_sign_in_the_address_is_a_run_that_is_not_there(browser: Any, dashboard: Dashboard) -> None:
    """A blank page, and nothing but an exception nobody sees."""
    page, complaints = open_page(browser, dashboard.url)
    settled(page, "now")
    page.evaluate("location.hash = '#/100%/now'")
    page.wait_for_function(f"() => ({TROUBLE})()?.includes('100%')")
    page.evaluate("location.hash = '#/good/now'")
    page.wait_for_selector("#head h1")
    assert page.evaluate(TROUBLE) is None and complaints.none(), complaints
    page.context.close()


def test_a_question_that_nobody_answered_is_asked_again_and_its_complaint_is_taken_back(browser: Any, dashboard: Dashboard) -> None:
    """A run that is over brings no news, so the words of one lost answer stand for ever."""
    page, _ = open_page(browser, dashboard.url)
    settled(page, "now")
    page.route("**/curves?*", lambda route: route.abort())
    page.evaluate("location.hash = '#/good/rewards'")
    page.wait_for_function(f"() => ({TROUBLE})()?.includes('does not answer')")
    page.unroute("**/curves?*")
    page.wait_for_function(f"() => ({TROUBLE})() === null")
    settled(page, "rewards")
    page.context.close()


def test_what_cannot_be_drawn_is_not_blamed_on_the_server_nor_on_other_screens(browser: Any, dashboard: Dashboard) -> None:
    """`The server does not answer` sends one looking in the wrong place."""
    page, _ = open_page(browser, dashboard.url)
    settled(page, "now")
    page.route("**/curves?*", lambda route: route.fulfill(json={"generation": 1, "curves": {"groups/mixed": {"steps": 5, "values": 7}}}))
    page.evaluate("location.hash = '#/good/rewards'")
    page.wait_for_function(f"() => ({TROUBLE})()?.startsWith('This screen could not be drawn: ')")
    page.click("#tab-groups")
    settled(page, "groups")
    assert page.evaluate(TROUBLE) is None
    page.context.close()


def test_words_of_a_record_are_looked_up_among_the_page_s_own_and_nothing_else(visit: Visit, runs: Path) -> None:
    """A phase or a verdict called `constructor` is found where every object keeps its own, and the screen stays empty."""
    writer, dice = begin(runs / "odd", steps=2), random.Random(1)
    group = recorded._group(dice, 0, 0.5, ())
    odd = [dataclasses.replace(row, verdict="constructor") for row in group.rollouts]
    write_step(writer, 1)
    writer.rollouts(2, [dataclasses.replace(group, rollouts=tuple(odd))])
    writer.log(2, {"reward": 1.0, "time/constructor": 1.0, "time/step": 1.0, "rewards/constructor/mean": 1.0})
    writer.finish("finished", {})
    page = visit("odd", "now")
    assert "constructor" in page.inner_text(".phases") and page.evaluate(TROUBLE) is None
    page = visit("odd", "groups", "?step=2")
    assert "not judged" in page.inner_text(".pane") and page.evaluate(TROUBLE) is None
    visit("odd", "rewards")
