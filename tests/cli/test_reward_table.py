"""`heron reward table`: written answers scored by a recipe's rubric, each criterion in a column."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.errors import ConfigError, DataError

REPLIES = Path(__file__).resolve().parents[2] / "docs" / "email-replies.jsonl"


def table(*words: str, columns: int = 200) -> list[str]:
    result = CliRunner().invoke(app, ["reward", "table", *words], env={"COLUMNS": str(columns)}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def scores(lines: list[str]) -> dict[str, list[float]]:
    """The numbers of each reply by its line in the file."""
    found = (re.fullmatch(r" *(\d+) .*?((?: +-?\d\.\d\d){7}) *", line) for line in lines)
    return {match[1]: [float(cell) for cell in match[2].split()] for match in found if match is not None}


def test_twenty_replies_with_each_criterion() -> None:
    """Prevents: a table that is not the rubric's, or hides a criterion."""
    lines = table("email", str(REPLIES))
    head = " ".join(lines[: next(number for number, line in enumerate(lines) if "───" in line)])
    assert sorted(head.split()) == sorted((
        "row", "answer", "required", "keywords", "exact", "match", "too", "long", "names", "recipient", "has", "signature", "follows",
        "format", "×0.5", "total",
    ))
    rows = scores(lines)
    assert len(rows) == 20
    assert rows["1"] == [1, 1, 0, 1, 1, 1, 4.5]
    assert rows["9"][0] == rows["10"][0] == rows["12"][4] == 0 and rows["11"][2] == -1
    assert [rows[str(row)][-1] for row in (14, 15, 16, 17, 18)] == [0.0] * 5


def test_a_narrow_terminal_shows_all_of_it() -> None:
    """Prevents: names and answers in columns of three letters."""
    lines = table("email", str(REPLIES), columns=80)
    assert scores(lines) == scores(table("email", str(REPLIES))) and max(map(len, lines)) <= 80
    assert all(word in " ".join(lines[:6]) for word in ("required", "keywords", "recipient", "signature", "×0.5", "total"))
    assert sum("Dear" in line for line in lines) >= 7 and len(lines) < 32


def test_escapes_in_a_reply_do_not_reach_the_terminal() -> None:
    """Prevents: a model that writes into the terminal."""
    output = CliRunner().invoke(app, ["reward", "table", "email", str(REPLIES)], env={"COLUMNS": "200"}).output
    assert "\x1b[31m" not in output and "[bold]Dear" in output


@pytest.mark.parametrize(
    ("row", "words", "error"),
    [
        ({"prompt": "a"}, [], DataError), ({"prompt": "a", "completion": "b"}, [], DataError), (None, [], DataError),
        ({"prompt": "a", "completion": "b"}, ['--rewards.functions=["shaping.overlong"]', "--rewards.weights=[]"], ConfigError),
    ],
)
def test_what_cannot_be_scored_is_an_error(tmp_path: Path, row: dict[str, str] | None, words: list[str], error: type[Exception]) -> None:
    """Prevents: an empty table, and a score for tokens that nobody knows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("" if row is None else json.dumps(row))
    result = CliRunner().invoke(app, ["reward", "table", "email", str(file), *words])
    assert isinstance(result.exception, error)
