"""One browser and one dashboard over recorded runs for all tests of this folder; each test has a page of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, open_page, settled
from recorded import record

from heron.dashboard.server import Dashboard

HOSTILE = (
    "</pre><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    "\x1b]52;c;b3duZWQ=\x07 \x1b[31mred\x1b[0m \x9b31m",
    "right to left: \u202edrawrof\u202c \u2066isolated\u2069 tag \U000e0041 joiner \u200b end",
    "[/red] [bold]markup[/bold] {{7*7}} ${7*7} <a href='http://evil.example/'>click</a>",
    "&lt;b&gt; stays as written, \\u202e too; lines\nand\ttabs stay",
    "\ud800 alone, \x00 nothing, \u2028 separator, \u3164 filler",
)
"""Answers that a browser, a terminal or a reader could be made to obey."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser there is nothing to test; with one, each test takes a second or more."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: one that learns, one that learns slowly, one whose model writes hostile text."""
    folder = tmp_path_factory.mktemp("runs")
    record(folder / "hostile", steps=12, texts=HOSTILE)
    record(folder / "slow", steps=30, rate=2e-5)
    record(folder / "good", steps=40)
    return folder


@pytest.fixture(scope="session")
def dashboard(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Serves the runs; the indexes lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made = Dashboard(runs)
        made.start()
        yield made
        made.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    with chromium() as made:
        yield made


@pytest.fixture
def visit(browser: Any, dashboard: Dashboard) -> Iterator[Callable[..., Any]]:
    """`visit("good", "rewards")` is a page on that screen. At the end no page may have complained, nor asked for anything elsewhere."""
    opened = []

    def make(run: str, screen: str, question: str = "", **options: Any) -> Any:
        page, complaints = open_page(browser, dashboard.url, **options)
        opened.append((page, complaints))
        page.wait_for_url("**/#/*/*")
        page.evaluate("target => { location.hash = target }", f"#/{run}/{screen}{question}")
        page.wait_for_function("run => document.querySelector('#head h1')?.textContent === run", arg=run)
        settled(page, screen)
        return page

    yield make
    for page, complaints in opened:
        page.context.close()
        assert complaints.none(), complaints
