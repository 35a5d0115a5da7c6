"""docs/tracking.md tells of every number, every alert and every file that there is, and of none that there is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import heron
from heron.run.alerts import CHECKS
from heron.run.metrics import registered
from heron.run.sinks import SINKS
from tests.docs.tracking_page import PAGE, PLACE, groups, rendered


def test_the_page_shows_what_the_code_says() -> None:
    """Prevents: definitions on the page that no longer hold. Write them anew: python -m tests.docs.tracking_page"""
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, _ in PLACE.findall(page)] == ["alerts", "metrics"]
    assert page == rendered(page)


def test_nothing_is_left_out() -> None:
    """Prevents: a number that stands above the first heading of its file, and so in no table."""
    told = groups()
    assert [metric for members in told.values() for metric in members] == list(registered())
    assert "" not in told and len(told) > 4
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in [*CHECKS, *(metric.name for metric in registered())])
    assert all(f"| `{name}` |" in page for name in SINKS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> set[str]:
    """What a real run leaves in its directory."""
    run = heron.train(
        model=str(tiny_folder("qwen3")), run_dir=tmp_path_factory.mktemp("runs") / "one", quiet=True, evaluation={"size": 2, "samples": 1},
        train={"max_steps": 1, "prompts_per_step": 2, "save_steps": 1, "report_to": ["csv"]},
        rollout={"num_generations": 2, "max_completion_length": 8},
    )
    return {path.name for path in run.path.iterdir()}


def test_every_file_of_a_run_is_named(files: set[str]) -> None:
    """Prevents: a file that nobody can explain, found in a folder that was copied from elsewhere."""
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(name for name in files if f"`{name}" not in page) == [] and len(files) >= 9
