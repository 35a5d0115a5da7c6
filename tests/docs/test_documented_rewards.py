"""The tables of scores in docs/rewards.md, computed again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from heron.rewards import BUILT_IN, load_functions
from heron.rewards.resolving import WITH_SETTINGS
from heron.types import Tags

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
TAGS = Tags(reasoning_start="<think>", reasoning_end="</think>", solution_start="<answer>", solution_end="</answer>")


def tables() -> list[tuple[str, list[str], list[str]]]:
    """The function, the columns, and the cells of each row below a heading that names one."""
    found = []
    for name, text in re.findall(r"^### `([^`]+)`[^\n]*\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
        found += [(name, lines[0], cells) for cells in lines[2:]]
    return found


def value(cell: str) -> object:
    """Text in backticks, with its line breaks; a list or an object in backticks as JSON."""
    text = cell.strip("`")
    return json.loads(text) if text[:1] in "[{" and text else text.replace("\\n", "\n")


@pytest.mark.parametrize(("name", "columns", "cells"), tables(), ids=lambda given: given if isinstance(given, str) else None)
def test_the_page_says_what_a_function_pays(name: str, columns: list[str], cells: list[str]) -> None:
    """Prevents: a table of scores that is not what a run pays."""
    given = {column: value(cell) for column, cell in zip(columns, cells, strict=True)}
    wanted = given.pop("score")
    if "most_words" in given:
        (given["most_words"],) = given["most_words"]
    (function,) = load_functions(name)
    score = function(**given, tags=TAGS) if "completion_ids" not in given and "repetition" not in name else function(**given)
    assert str(score) == wanted if wanted == "None" else score == pytest.approx(float(str(wanted)))


def test_every_shipped_function_has_a_table() -> None:
    """Prevents: a function that is shipped and nobody knows what it pays."""
    assert {name.partition("(")[0] for name, _, _ in tables()} == {*BUILT_IN, *WITH_SETTINGS}
