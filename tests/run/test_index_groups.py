"""Pages of groups: each filter finds its own, the search finds words, lengths and order are those of the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from heron.errors import RunError
from heron.run import Run, RunWriter
from heron.run.index import FILTERS, Index, lengths
from tests.run.test_run_index import group

ROWS: dict[int, list[dict[str, Any]]] = {
    1: [{"text": "six times seven", "reward": 1.0, "advantage": 1.0, "length": 10},
        {"text": "I wait", "reward": 0.0, "advantage": -1.0, "verdict": "wrong", "length": 4}],
    2: [{"text": "<b>bold</b> claim", "reward": 2.0, "verdict": "unreadable", "length": 30, "cut": True}],
    3: [{"text": "naïve 一二", "reward": 3.0, "length": 12}],
    4: [{"text": "", "reward": -1.0, "verdict": None, "length": 1, "error": "The judge was silent."}],
}  # fmt: skip
FOUND = {
    "all": [4, 3, 2, 1], "signal": [1], "no-signal": [4, 3, 2], "truncated": [2], "errors": [4], "rewarded-but-wrong": [2],
    "right": [3, 1], "wrong": [2, 1], "highest": [3, 2, 1, 4], "lowest": [4, 1, 2, 3],
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["words", "no-fts5"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
    for step, rows in ROWS.items():
        writer.rollouts(step, [group("odd" if step % 2 else "even", rows)])
        writer.log(step, {"reward": 0.0})
    writer.close()
    made = Index(Run(tmp_path / "run"), tmp_path / "cache", has_search=request.param)
    made.refresh()
    return made


def steps(index: Index, **query: Any) -> list[int]:
    page = index.groups(**query)
    assert page.total == len(page.groups)
    return [card.step for card in page.groups]


def test_each_filter_finds_its_own(index: Index) -> None:
    """Prevents: a list of failures that hides one, also when it is combined with a step, a prompt or a search."""
    assert set(FOUND) == set(FILTERS)
    for name, found in FOUND.items():
        assert steps(index, filter=name) == found, name
        assert steps(index, filter=name, prompt="odd") == [step for step in found if step % 2], name
        assert steps(index, filter=name, search="what") == found, name
        assert steps(index, filter=name, search="what", prompt="even") == [step for step in found if step % 2 == 0], name
        assert steps(index, filter=name, step=2) == steps(index, filter=name, step=2, search="WHAT") == [2] * (2 in found), name


def test_pages_follow_one_another(index: Index) -> None:
    """Prevents: a group that is on two pages, or on none."""
    for query in ({}, {"search": "is"}, {"filter": "highest"}, {"filter": "lowest", "search": "what"}, {"order": "oldest"}):
        whole = [card.step for card in index.groups(**query).groups]
        for limit in (1, 2, 3):
            pages = [index.groups(**query, limit=limit, offset=offset) for offset in range(0, 6, limit)]
            assert [card.step for page in pages for card in page.groups] == whole and {page.total for page in pages} == {4}


def test_search_finds_what_was_asked_and_answered(index: Index) -> None:
    """Prevents: a search for a word that a model wrote, which finds nothing; and one that breaks on what people type."""
    finds = index.groups(search="seven").searched
    wrote = {"seven": [1], "SIX seven": [1], "six wait": [1], "bold": [2], "naive": [3], "一二": [3], "clai*": [2], "nobody": []}
    for text, found in wrote.items():
        assert steps(index, search=text) == (found if finds == "answers" else []), text
    for text, found in {"odd": [3, 1], "42": [4, 3, 2, 1]}.items():
        assert steps(index, search=text) == found, text
    for text in ('"', "'; DROP TABLE groups", "AND", "NEAR(", "body:x", "a:b", "%", "_", "*", "(((", "\\", "\0x", "se*"):
        assert steps(index, search=text) == [], text
    assert steps(index, search="  ") == [4, 3, 2, 1]


def test_prompts_come_back_over_time(index: Index) -> None:
    assert steps(index, prompt="odd", order="oldest") == [1, 3]
    assert steps(index, prompt="nobody") == steps(index, prompt="nobody", search="what") == []


def test_lengths_are_told_apart_by_verdict(index: Index) -> None:
    """Prevents: long wrong answers that look like long right ones."""
    found = index.lengths(1, 3, bins=4)
    assert found.edges == [4, 11, 18, 25, 32]
    assert (found.right, found.not_right, found.unknown) == ([1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0])
    assert index.lengths(4, 9).unknown == [1] and index.lengths(50, 60).edges == []


def test_lengths_of_very_many_answers_are_those_of_some_steps(index: Index) -> None:
    """Prevents: a screen that takes a second for what a few steps show as well; and figures of a part that pass for the whole."""
    with mock.patch.multiple(lengths, MOST=2, FEWEST=1):
        found = index.lengths(1, 4)
        assert found.every == 3 and 0 < sum(found.right + found.not_right + found.unknown) < 5
        assert index.lengths(2, 2).not_right == [1]
    assert index.lengths(1, 4).every == 1


def test_what_is_not_known_is_named(index: Index) -> None:
    with pytest.raises(RunError, match=r"no filter 'trunctated'.*Did you mean"):
        index.groups(filter="trunctated")
    with pytest.raises(RunError, match="no order 'newest'"):
        index.groups(order="newest")
    with pytest.raises(RunError, match="no rollouts of step 99"):
        index.group(99, 0)
    assert index.group(1, 7) == []


def test_group_is_read_whole_even_before_it_is_indexed(index: Index, tmp_path: Path) -> None:
    """Prevents: texts of a neighbour, and a newest group that cannot be opened yet."""
    assert [row["text"] for row in index.group(1, 0)] == ["six times seven", "I wait"]
    writer = RunWriter.reopen(tmp_path / "run", last_step=4)
    writer.rollouts(5, [group("a", [{"text": "first"}]), group("b", [{"text": "second"}, {"text": "third"}])])
    assert [row["text"] for row in index.group(5, 1)] == ["second", "third"]
    writer.log(5, {"reward": 0.0})
    index.refresh()
    assert [row["text"] for row in index.group(5, 1)] == ["second", "third"]
    assert [(card.step, card.group) for card in index.groups(step=5).groups] == [(5, 1), (5, 0)]


def test_group_is_read_from_a_file_that_was_written_anew(index: Index, tmp_path: Path) -> None:
    """Prevents: half of a group, since the index still knows where it was before a resume."""
    writer = RunWriter.reopen(tmp_path / "run", last_step=3)
    writer.rollouts(4, [group("a", [{"text": "longer than before"}, {"text": "and one more"}])])
    assert [row["text"] for row in index.group(4, 0)] == ["longer than before", "and one more"]
