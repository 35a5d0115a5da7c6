"""docs/papers.md is an index of what is cited: nothing less, and nothing more."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "docs" / "papers.md"
NUMBER = re.compile(r"(?<![\w.])(\d{4}\.\d{5})(?![\w.]*\d)")


def cited() -> dict[str, str]:
    """Each arXiv number in the code and on the other pages, and a file that names it."""
    code = [path for suffix in ("py", "c", "h", "toml") for path in (ROOT / "heron").rglob(f"*.{suffix}")]
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != INDEX and "_build" not in path.parts]
    texts = {path: path.read_text(encoding="utf-8") for path in [*code, *pages]}
    return {number: str(path.relative_to(ROOT)) for path, text in texts.items() for number in NUMBER.findall(text) if is_paper(number)}


def is_paper(number: str) -> bool:
    """A year from 2007 on and a month: other numbers with five decimals are no papers."""
    return 7 <= int(number[:2]) <= 40 and 1 <= int(number[2:4]) <= 12


def test_every_paper_that_is_cited_is_in_the_index() -> None:
    """Prevents: a number in a docstring that a reader has to look up, and an index that names what is used no more."""
    page, found = INDEX.read_text(encoding="utf-8"), cited()
    before, background, after = re.split(r"(?s)(?=## Background)(.*?)(?=## Not on arXiv)", page)
    index = listed(before) + listed(after)
    assert len(set(listed(page))) == len(listed(page)) and len(found) > 30
    assert {number: found[number] for number in found.keys() - {*index, *listed(background)}} == {}
    assert set(index) - found.keys() == set()


def listed(text: str) -> list[str]:
    """The numbers in it, each of which must be linked to its paper."""
    links = re.findall(r"\[(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/(\d{4}\.\d{5})\)", text)
    assert all(shown == linked for shown, linked in links)
    return [shown for shown, _ in links]


def test_settings_that_are_named_exist() -> None:
    """Prevents: an index that leads to a setting that was renamed."""
    from heron.config import Config

    config = Config()
    named = re.findall(r"`(objective|model|rollout|train)\.(\w+)", INDEX.read_text(encoding="utf-8"))
    assert len(named) > 15 and [f"{section}.{key}" for section, key in named if not hasattr(getattr(config, section), key)] == []
