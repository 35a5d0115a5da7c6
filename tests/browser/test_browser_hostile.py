"""What a model writes is shown and never obeyed: not as markup, not as a script, not as a command, not as an order of reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browsing import HOSTILE, PHONE, open_page
from recorded import begin, write_step

Visit = Callable[..., Any]
UNSEEN = "\x1b\x07\x9b\x00\u202e\u202c\u2066\u2069\u200b\u2028\u3164\U000e0041\ud800\ufe0f\u034f\u17b4\u2800\U000e0101"


def test_hostile_answers_are_text_and_nothing_else(visit: Visit) -> None:
    """One answer that becomes an element can read the whole run and act in the page."""
    page = visit("hostile", "groups", "?step=2")
    shown = page.locator(".pane pre").all_text_contents()
    assert HOSTILE[0] in shown and HOSTILE[3] in shown and HOSTILE[4] in shown
    assert page.locator("#screen img, #screen script, #screen iframe, .pane a").count() == 0
    assert page.title() != "owned" and "owned" not in page.evaluate("document.title + (window.owned ?? '')")


def test_what_cannot_be_seen_is_shown_as_an_escape(visit: Visit) -> None:
    """An escape sequence that is pasted into a terminal is obeyed there; a bidi mark makes a wrong answer read as a right one."""
    page = visit("hostile", "groups", "?step=2")
    everything = page.evaluate("document.documentElement.outerHTML")
    assert not set(UNSEEN) & set(everything)
    marks = page.locator(".pane pre .escape").all_text_contents()
    assert {r"\x1b", r"\x07", r"\x9b", r"\u202e", r"\u2066", r"\u200b", r"\u{e0041}", r"\x00", r"\u2028", r"\u3164"} <= set(marks)
    assert {r"\ufe0f", r"\u034f", r"\u17b4", r"\u2800", r"\u{e0101}"} <= set(marks), "letters that are drawn as nothing"
    written = page.locator(".pane pre", has_text="stays as written").first
    assert r"\u202e too" in written.text_content() and written.locator(".escape").count() == 0, "what is written out stays as it is"


@pytest.mark.slow
def test_names_of_a_run_are_as_harmless_as_its_texts(visit: Visit, runs: Any) -> None:
    """Folders and reward functions are named by others too, and plotly would read markup in a name."""
    name = "<img src=x onerror=document.title='owned'>\u202e"
    writer = begin(runs / name)
    write_step(writer, 1)
    writer.log(2, {"reward": 1.0, f"rewards/{name}/mean": 1.0, f"rewards/{name}/std": 0.5, f"time/{name}": 1.0, name: 3.0})
    writer.event("message", text=name)
    writer.event("alert", id="x", step=2, title=name, evidence=name, advice=name)
    writer.finish("failed", {"error": name})
    for screen in ("now", "rewards", "compare", "explain"):
        page = visit("good", screen, size=PHONE if screen == "now" else {"width": 1200, "height": 900})
        page.evaluate("([name, screen]) => { location.hash = `#/${encodeURIComponent(name)}/${screen}` }", [name, screen])
        page.wait_for_function("() => document.querySelector('#head h1')?.textContent.startsWith('<img')")
        page.wait_for_timeout(600)
        assert page.locator("#head img, #screen img, #runs img").count() == 0 and "owned" not in page.title().split("=")[0]
        assert "\u202e" not in page.evaluate("document.documentElement.outerHTML") and r"\u202e" in page.inner_text("h1")
        assert "error" in page.inner_text("#head")


def test_the_policy_stops_what_would_slip_through(browser: Any, dashboard: Any) -> None:
    """The second wall: should some later change make markup of text, the browser must still refuse to run it."""
    page, _ = open_page(browser, dashboard.url)
    refused = page.evaluate(
        """() => new Promise((done) => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', (event) => seen.push(event.effectiveDirective));
            const box = document.createElement('div');
            document.body.append(box);
            box['inner' + 'HTML'] = '<img src="http://127.0.0.1:1/x" onerror="window.owned = 1"><b style="color: red">x</b>';
            setTimeout(() => { try { new Function('window.owned = 2')(); } catch { seen.push('eval'); } });  // at once, the debugger may
            fetch('http://127.0.0.1:1/').catch(() => {});
            setTimeout(() => done([seen, window.owned ?? null]), 500);
        })"""
    )
    assert refused[1] is None and {"eval", "img-src", "style-src-attr", "connect-src"} <= set(refused[0])
    page.context.close()
