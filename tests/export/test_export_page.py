"""docs/export.md says what is there: its Python runs, its lists are whole. Its commands are run with those of the other pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import make_run

from heron.export import DTYPES, FORMATS, QUANTIZATIONS
from tests.docs.documents import ROOT, python_of

PATH = ROOT / "docs" / "export.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_pages_python_runs(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents: an example that a reader pastes and that does not work."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "first", tiny_folder("qwen3"), method="full")
    (block,) = python_of(PATH)
    exec(compile(block.text, block.name, "exec"), {})
    assert "first-python 3 of 3 greedy answers" in capsys.readouterr().out


def test_the_page_names_every_choice() -> None:
    """Prevents: a format, dtype or quantisation that no reader hears of."""
    assert [name for name in (*FORMATS, *DTYPES, *QUANTIZATIONS) if f"`{name}`" not in PAGE and f"--dtype {name}`" not in PAGE] == []
