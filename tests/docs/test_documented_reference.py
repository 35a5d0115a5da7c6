"""Settings, commands and extras in the documents are those of the code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from heron.cli.main import app
from heron.config import Config
from tests.docs.reference_page import DOCS, PAGES, PLACE, TABLES, rendered


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_shows_what_the_code_says(path: Path) -> None:
    """Prevents: a table that no longer holds. Write it anew: python -m tests.docs.reference_page"""
    page = path.read_text(encoding="utf-8")
    assert page == rendered(page)


def test_every_table_has_its_place() -> None:
    """Prevents: the test above passing since a page has lost its marks."""
    assert [name for path in PAGES for name in PLACE.findall(path.read_text(encoding="utf-8"))] == list(TABLES)


def test_every_setting_is_on_the_page() -> None:
    """Prevents: a setting whose docstring was forgotten, or that the reader of classes skips."""
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    config = Config()
    sections = {field.name: getattr(config, field.name) for field in fields(Config) if field.name != "recipe"}
    named = [f"{name}.{field.name}" for name, section in sections.items() for field in fields(section)]
    assert len(named) > 100 and [name for name in named if f"| `{name}` |" not in page] == []


def test_every_option_of_every_verb_is_on_the_page() -> None:
    """Prevents: an option that Typer makes otherwise than the page says."""
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    missing = []
    for name, verb in _verbs("heron", typer.main.get_command(app)):
        text = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        options = [spelling for one in verb.params for spelling in (*one.opts, *one.secondary_opts) if spelling.startswith("--")]
        missing += [f"{name} {option}" for option in options if option != "--help" and f"`{option}" not in text]
    assert missing == []


def test_every_extra_is_in_the_table() -> None:
    """Prevents: an extra that nobody finds, and one that pip does not know."""
    (table,) = re.findall(r"\| extra \| what for \|\n(.*?)\n\n", (DOCS / "start.md").read_text(encoding="utf-8"), re.DOTALL)
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(named) == sorted(project["optional-dependencies"])


def _verbs(name: str, command: typer.main.TyperGroup) -> list[tuple[str, typer.main.TyperGroup]]:
    below = getattr(command, "commands", {})
    return [pair for word, inner in below.items() for pair in _verbs(f"{name} {word}", inner)] if below else [(name, command)]
