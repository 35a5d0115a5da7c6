"""One browser and one dashboard over recorded runs for the tests of a file; each test has a page of its own.

Not for longer: a driven browser keeps an event loop in the thread, in which other tests could not start theirs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import HOSTILE, chromium, open_page, settled
from recorded import record

from heron.dashboard.server import Dashboard


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser there is nothing to test; with one, each test takes a second or more."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: one that learns, one that learns slowly, one whose model writes hostile text."""
    folder = tmp_path_factory.mktemp("runs")
    record(folder / "hostile", steps=12, texts=HOSTILE)
    record(folder / "slow", steps=30, rate=2e-5)
    record(folder / "good", steps=40)
    return folder


@pytest.fixture(scope="module")
def dashboard(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Serves the runs; the indexes lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made = Dashboard(runs)
        made.start()
        yield made
        made.close()


@pytest.fixture(scope="module")
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
