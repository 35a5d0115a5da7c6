"""The chapters of docs/learn: their Python blocks print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

LEARN = Path(__file__).resolve().parents[2] / "docs" / "learn"
BLOCKS = [
    (page.name, *match) for page in sorted(LEARN.glob("*.md"))
    for match in re.findall(r"```python\n([^`]*)```\n\n```text\n([^`]*)```", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "block", "shown"), BLOCKS, ids=[page for page, _, _ in BLOCKS])
def test_a_block_prints_what_the_page_shows(page: str, block: str, shown: str) -> None:
    """Prevents: an example whose output is another one."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, page, "exec"), {})
    assert printed.getvalue() == shown


def test_there_are_blocks() -> None:
    """Prevents: the test above passing because nothing was found."""
    assert {page[:2] for page, _, _ in BLOCKS} >= {"07", "08", "12", "14", "15"}
