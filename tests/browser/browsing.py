"""A real headless browser that may reach nothing but this machine, and that keeps what it complained of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SCREENS = ("now", "rewards", "groups", "lengths", "health", "compare", "explain")
LAPTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")

HOSTILE = (
    "</pre><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    "\x1b]52;c;b3duZWQ=\x07 \x1b[31mred\x1b[0m \x9b31m",
    "right to left: \u202edrawrof\u202c \u2066isolated\u2069 tag \U000e0041 joiner \u200b end",
    "[/red] [bold]markup[/bold] {{7*7}} ${7*7} <a href='http://evil.example/'>click</a>",
    "&lt;b&gt; stays as written, \\u202e too; lines\nand\ttabs stay",
    "\ud800 alone, \x00 nothing, \u2028 separator, \u3164 filler",
    "4\ufe0f2 4\u034f2 4\u17b42 \u2800 4\U000e01012",
)
"""Answers that a browser, a terminal or a reader could be made to obey."""


@dataclass(kw_only=True)
class Complaints:
    """What a page should never have given reason for."""

    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def none(self) -> bool:
        return not self.console and not self.foreign


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's chromium where there is one, else Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET))
        yield browser
        browser.close()


def open_page(browser: Browser, url: str, *, dark: bool = False, size: Any = LAPTOP) -> tuple[Page, Complaints]:
    """A page of a fresh profile at the address. Requests to elsewhere are refused and kept."""
    context: BrowserContext = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce")
    complaints = Complaints()
    page = context.new_page()
    page.set_default_timeout(20000)
    page.on("console", lambda message: complaints.console.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.console.append(str(error)))

    def pass_own(route: Any) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            complaints.foreign.append(route.request.url)
            route.abort()

    context.route("**/*", pass_own)
    page.goto(url)
    return page, complaints


def go(page: Page, run: str, screen: str, question: str = "") -> None:
    """To a screen by its address, until it is drawn."""
    page.evaluate("target => { location.hash = target }", f"#/{run}/{screen}{question}")
    settled(page, screen)


def settled(page: Page, screen: str) -> None:
    """Until the screen stands, its charts are drawn and nothing is asked for."""
    page.wait_for_selector(f"#screen.{screen} > *")
    page.wait_for_function(
        """() => document.querySelector('#head h1')
            && [...document.querySelectorAll('.plot:not(.empty)')].every((plot) => plot.querySelector('.main-svg'))""",
    )
    if screen == "groups":
        page.wait_for_selector(".pane .sibling, .list .none")
    if screen == "explain":
        page.wait_for_selector(".metric .live .spark path", state="attached")
    if screen == "compare":
        page.wait_for_selector(".compare table td")
    page.wait_for_timeout(250)
