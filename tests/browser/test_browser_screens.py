"""Every screen in a real browser, on recorded runs: it is drawn, nothing complains, and nothing is asked for elsewhere (see `visit`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import LAPTOP, PHONE, SCREENS, go

Visit = Callable[..., Any]
ROOT = Path(__file__).parents[2]


def test_the_token_leaves_the_address_and_scripts_cannot_read_it(visit: Visit, dashboard: Any) -> None:
    """A token in the address bar is photographed, and one that scripts can read is stolen by the first hole."""
    page = visit("good", "now")
    assert dashboard.token not in page.url and dashboard.token not in page.evaluate("document.cookie + document.documentElement.outerHTML")


def test_one_look_tells_whether_it_learns(visit: Visit) -> None:
    """The page's whole purpose: headline, figures, no alert; and a run that goes wrong says so."""
    page = visit("good", "now")
    assert page.inner_text(".verdict h2") == "It learnt." and page.inner_text(".alerts") == "Nothing looks wrong."
    figures = page.inner_text(".changes")
    assert "held-out accuracy" in figures and re.search(r"15\s%\s*→\s*8\d\s%", figures)
    for card in ("Luck", "A step", "Memory", "The machine"):
        assert page.locator(".card", has=page.get_by_role("heading", name=card, exact=True)).is_visible()
    assert page.locator(".plot .main-svg").count() >= 1 and "578 MiB" in page.inner_text(".memory").replace("\u202f", " ")


def test_rewards_show_the_total_each_function_and_the_luck(visit: Visit) -> None:
    """A function without its curve is a function that nobody looks at."""
    page = visit("good", "rewards")
    headings = page.locator("h3").all_inner_texts()
    assert headings == ["Total reward", "Right answers", "Luck", "number_found", "number_right", "follows_format"]
    assert page.locator(".plot .main-svg").count() >= 6
    luck = page.locator(".chart", has=page.get_by_role("heading", name="Luck"))
    assert luck.locator(".fills path, .js-fill").count() == 3 and "mixed" in luck.inner_text()
    total = page.locator(".chart").first
    assert "held-out reward" in total.inner_text() and total.locator(".points path").count() >= 2, "evaluations on the same axis"


def test_a_group_shows_its_answers_from_best_to_worst_with_all_that_was_made_of_them(visit: Visit) -> None:
    """Why this reward: advantage, verdict, what was found against what was wanted, each function, length."""
    page = visit("good", "groups", "?step=3")
    assert page.locator(".entry").count() == 4 and "step 3 of 40" in page.inner_text(".steps")
    pushes = [float(text.replace("−", "-")) for text in page.locator(".sibling .push b").all_inner_texts()]
    assert pushes == sorted(pushes, reverse=True) and len(pushes) >= 1
    first = page.locator(".sibling").first.inner_text()
    assert all(word in first for word in ("found", "reward", "number_right", "tokens", "<answer>"))
    assert "reference" in page.inner_text(".wanted")
    page.click("#filter-wrong")
    page.wait_for_selector("#filter-wrong[aria-pressed=true]")
    page.get_by_role("button", name="this prompt over time").click()
    page.wait_for_function("() => document.querySelector('.found').textContent.includes('one prompt over time')")
    assert "in all steps" in page.inner_text(".found") and "prompt=" in page.url


def test_a_search_finds_words_in_answers_and_says_when_there_are_none(visit: Visit) -> None:
    """A list that stays as it was looks like a search that found everything."""
    page = visit("good", "groups", "?all=1")
    assert "160 groups in all steps" in page.inner_text(".found")
    page.fill(".groups input[type=search]", "nowhere")
    page.wait_for_selector(".list .none")
    assert page.inner_text(".found").startswith("0 groups") and page.locator(".sibling").count() == 0


def test_lengths_are_drawn_with_their_histogram(visit: Visit) -> None:
    """An empty picture where counts are known."""
    page = visit("good", "lengths")
    page.wait_for_selector(".histogram rect")
    assert "480 answers of steps 21 to 40" in page.inner_text(".lengths") and page.locator(".histogram title").first.text_content()
    page.fill("[aria-label='first step']", "40")
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.body.textContent.includes('24 answers of steps 40 to 40')")


def test_policy_health_draws_what_was_recorded(visit: Visit) -> None:
    """A renamed number would leave its chart empty for ever."""
    page = visit("good", "health")
    assert page.locator(".chart").count() == 8 and "not recorded" not in page.inner_text(".health")


def test_a_comparison_shows_what_is_set_otherwise_before_the_curves(visit: Visit) -> None:
    """Two curves whose difference is not named say nothing."""
    page = visit("good", "compare", "?with=slow")
    table = page.locator("table").first
    assert "train.learning_rate" in table.inner_text() and "0.0002" in table.inner_text() and "2e-05" in table.inner_text()
    assert table.bounding_box()["y"] < page.locator(".plot").first.bounding_box()["y"]
    page.wait_for_function("() => document.querySelectorAll('.compare .value b').length >= 8")
    page.get_by_label("hostile").check()
    page.wait_for_function("() => document.querySelectorAll('table')[0].rows[0].cells.length === 4")
    assert "with=slow&with=hostile" in page.url


def test_every_number_is_explained_and_charts_lead_there(visit: Visit) -> None:
    """A number that one cannot look up is noise."""
    page = visit("good", "health")
    page.get_by_role("link", name="what Entropy means").click()
    page.wait_for_selector(".metric.wanted .spark path", state="attached")
    card = page.locator(".metric.wanted")
    assert "How undecided the model is" in card.inner_text() and "good looks like" in card.inner_text()
    assert re.search(r"0\.\d+", card.locator(".live b").inner_text()) and card.locator(".spark path").count() == 1
    page.get_by_label("find a number").fill("gradient")
    assert page.locator(".metric:visible").count() < 15


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_every_screen_fits_its_window_and_names_what_can_be_used(visit: Visit, size: Any) -> None:
    """A page that scrolls sideways is unreadable on a phone; a control without a name is none to a screen reader."""
    page = visit("good", "now", size=size)
    for screen in SCREENS:
        go(page, "good", screen)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{screen} scrolls sideways"
        assert page.evaluate(NAMELESS) == [], screen


def test_light_and_dark_follow_the_system(visit: Visit) -> None:
    """A white page at night."""
    for dark in (False, True):
        page = visit("good", "now", dark=dark)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
        assert lightness < 150 if dark else lightness > 600


NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, summary, [role=img], [tabindex="0"]')]
  .filter((one) => one.checkVisibility() && !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.title))
  .map((one) => one.outerHTML.slice(0, 200))"""


@pytest.mark.slow
def test_pictures_are_taken_by_a_command(runs: Path, tmp_path: Path) -> None:
    """The pictures in the documents must be made from the page as it is."""
    program = Path(__file__).with_name("screenshots.py")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, program, runs, tmp_path / "out", "good", "now"], env=environment, check=True, timeout=60)
    names = {f"now-{place}-{scheme}.png" for place in ("laptop", "phone") for scheme in ("light", "dark")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
