"""The page without a mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Visit = Callable[..., Any]
FOCUS = "() => document.activeElement.textContent.trim() || document.activeElement.ariaLabel || document.activeElement.tagName"


RING = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle + parseFloat(style.outlineWidth);
}"""


def test_tab_goes_from_the_skip_link_through_runs_and_screens_with_a_ring(visit: Visit) -> None:
    """Who cannot see where he is cannot use it."""
    page = visit("good", "now")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "Skip to the run"
    order = []
    for _ in range(13):
        page.keyboard.press("Tab")
        order.append(page.evaluate(FOCUS))
        ring = page.evaluate(RING)
        assert ring.startswith("solid") and float(ring.removeprefix("solid")) >= 2, order[-1]
    assert "Now" in order and order.index("Now") + 1 == order.index("Rewards")


def test_arrows_move_between_screens_and_enter_opens_one(visit: Visit) -> None:
    """Tabs that only Tab can reach take seven presses."""
    page = visit("good", "now")
    page.focus("#tab-now")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#screen.groups .entry")
    assert page.get_attribute("#tab-groups", "aria-current") == "page"
    assert page.evaluate("document.activeElement.id") == "tab-groups", "whoever opened it goes on from there"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#screen.lengths .plot")
    assert page.evaluate("document.activeElement.id") == "tab-lengths"


def test_a_way_out_of_a_screen_leads_to_the_heading_of_the_next(visit: Visit) -> None:
    """The focus was on something that is gone, and Tab begins at the top of the page again."""
    page = visit("good", "now")
    page.click("#tab-rewards")
    page.wait_for_selector("#screen.rewards .plot")
    page.focus("#screen .help")
    page.go_back()
    page.wait_for_selector("#screen.now .verdict")
    assert page.evaluate("document.activeElement.matches('#screen h2')") and page.evaluate("document.activeElement.textContent") == "Now"


def test_arrows_walk_through_steps_and_groups(visit: Visit) -> None:
    """Reading a run means walking through its steps."""
    page = visit("good", "groups", "?step=5")
    page.focus(".entry")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.steps output').textContent.startsWith('step 4 ')")
    page.wait_for_function("() => document.querySelector('.found').textContent.includes('in step 4')")
    page.focus(".entry")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("li:nth-child(2) > .entry[aria-current=true]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.steps output').textContent.startsWith('step 5 ')")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("a/b")
    page.keyboard.press("ArrowLeft")
    assert page.input_value(".groups input[type=search]") == "a/b" and "step 5 " in page.inner_text(".steps output")


def test_arrows_and_pointer_walk_along_a_chart_and_its_values_follow(visit: Visit) -> None:
    """Values that only a pointer can read."""
    page = visit("good", "now")
    page.focus(".plot")
    page.keyboard.press("Home")
    assert page.inner_text(".values .when") == "step 1"
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".values .when") == "step 2"
    page.keyboard.press("End")
    assert page.inner_text(".values .when") == "step 40"
    page.hover(".plot", position={"x": 300, "y": 150})
    page.wait_for_function("() => /^step (1|2)[0-9]$/.test(document.querySelector('.values .when')?.textContent)")
    page.focus(".plot")
    page.keyboard.press("Home")
    assert page.get_attribute(".values", "aria-live") == "polite", "said as one walks"
    page.evaluate("document.activeElement.blur()")
    assert page.get_attribute(".values", "aria-live") == "off", "and not whenever a run goes on"
    label = page.get_attribute(".plot", "aria-label")
    assert label.startswith("Reward: reward from") and "between steps 1 and 40" in label


def test_going_back_leads_to_the_screen_before(visit: Visit) -> None:
    """A page that swallows the way back is a trap."""
    page = visit("good", "now")
    page.click("#tab-rewards")
    page.wait_for_selector("#screen.rewards .plot")
    page.go_back()
    page.wait_for_selector("#screen.now .verdict")
    page.reload()
    page.wait_for_selector("#screen.now .verdict h2")
