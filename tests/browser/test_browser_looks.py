"""Letters can be read and things can be hit, on every screen, in light and in dark, on a laptop and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import LAPTOP, PHONE, SCREENS, go
from recorded import begin, write_step

Visit = Callable[..., Any]

PALE = """() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const over = (top, opacity, ground) => ground.map((one, at) => top[at] * opacity + one * (1 - opacity));
  const light = (colour) => colour.map((one) => one / 255).map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const path = (node) => node ? [...path(node.parentElement), node] : [];
  const ground = (node) => path(node).map((one) => parts(getComputedStyle(one).backgroundColor))
    .reduce((below, one) => over(one, one[3] ?? 1, below), [255, 255, 255]);
  const found = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, style = getComputedStyle(node);
    const isShown = walker.currentNode.data.trim() && node.checkVisibility({ visibilityProperty: true });
    if (!isShown || node.closest(':disabled, .unseen')) continue;
    const letters = parts(node.namespaceURI.includes('svg') ? style.fill : style.color), below = ground(node);
    const opacity = path(node).reduce((product, one) => product * getComputedStyle(one).opacity, letters[3] ?? 1);
    const [high, low] = [light(over(letters, opacity, below)), light(below)].sort((one, other) => other - one);
    const ratio = (high + 0.05) / (low + 0.05);
    const name = `${node.tagName}.${node.getAttribute('class')}`;
    if (ratio < 4.5) found.add([name, ratio.toFixed(2), walker.currentNode.data.slice(0, 30)].join(' '));
  }
  return [...found];
}"""

SMALL = """() => [...document.querySelectorAll('a, button, summary, select, input, label:has(input)')]
  .filter((one) => one.checkVisibility() && !one.closest('label:has(input) input') && !one.closest('.skip'))
  .map((one) => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width < 24 || box.height < 24)
  .map(([one, box]) => `${one.className || one.id || one.tagName} ${box.width} x ${box.height}`)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_letters_stand_out_and_a_finger_hits_what_it_wants(visit: Visit, dark: bool, size: Any) -> None:
    """Grey on grey below 4.5 to 1, which many cannot read; a target below 24 pixels, which many cannot hit."""
    page = visit("good", "now", dark=dark, size=size)
    for screen in SCREENS:
        go(page, "good", screen, "?step=3" if screen == "groups" else "")
        assert page.evaluate(PALE) == [], screen
        assert page.evaluate(SMALL) == [], screen


def test_pills_marks_and_alerts_stand_out_too(visit: Visit, runs: Path) -> None:
    """What is written on a colour of its own is forgotten first."""
    writer = begin(runs / "pale", steps=40)
    for step in range(1, 31):
        write_step(writer, step, texts=["\u202e", "x" * 3000])
        writer.event("alert", id=f"old-{step % 2}", step=step, title="It was so", evidence="once", advice="none")
    writer.finish("interrupted", {})
    for dark in (False, True):
        page = visit("pale", "now", dark=dark)
        for details in page.locator("details:not([open]) > summary:visible").all():
            details.click()
        assert page.evaluate(PALE) == []
        page = visit("pale", "groups", "?step=3", dark=dark)
        assert page.locator(".escape").count() and page.evaluate(PALE) == []


def test_a_phone_shows_every_column_of_the_rewards(visit: Visit) -> None:
    """Columns beyond the edge that nothing tells of."""
    page = visit("good", "rewards", size=PHONE)
    cells = page.locator(".shares td").all()
    assert len(cells) == 15
    assert all(cell.bounding_box()["x"] + cell.bounding_box()["width"] <= PHONE["width"] for cell in cells)
    assert page.evaluate("getComputedStyle(document.querySelector('.shares td'), '::before').content") == '"weight"'
