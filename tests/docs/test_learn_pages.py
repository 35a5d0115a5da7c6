"""docs/learn shows what its commands print: every line of an output that is quoted is in the output of today."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "learn"
QUOTE = re.compile(r"```sh\n(heron (?:lesson|plan) [^\n]*)\n```\n\n```text\n(.*?)```", re.DOTALL)
SHOWN = [(page.name, *found) for page in sorted(FOLDER.glob("*.md")) for found in QUOTE.findall(page.read_text(encoding="utf-8"))]
WIDTHS = ("80", "110")
"""Columns of a reader's terminal; wide tables are quoted as a wide one shows them."""


@cache
def printed(command: str, columns: str) -> str:
    """What the command prints, each run of spaces as one."""
    result = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": columns})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(("page", "command", "quoted"), SHOWN, ids=[f"{page}: {command}" for page, command, _ in SHOWN])
def test_what_a_page_quotes_is_what_its_command_prints(page: str, command: str, quoted: str) -> None:
    """Prevents: figures on a page that nobody gets any more."""
    lines = [" ".join(line.split()) for line in quoted.splitlines() if line.strip() not in ("", "...")]
    missing = [line for line in lines if all(line not in printed(command, columns) for columns in WIDTHS)]
    assert len(lines) >= 3 and missing == []


def test_pages_quote_every_lesson() -> None:
    """Prevents: the test above passing because no output was found."""
    lessons = {command.split()[2] for _, command, _ in SHOWN if command.startswith("heron lesson")}
    assert lessons == {"grid", "sum", "group", "luck", "clip", "kl"}
    assert any(command.startswith("heron plan") for _, command, _ in SHOWN)
