"""What a check says of rows: all that is wrong with them, with their lines, and not only the first fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heron import data
from heron.checking.findings import Finding, Level
from heron.checking.rows import read_rows, unscorable
from heron.config import Config, load_config
from heron.environments import SingleTurn
from heron.errors import DataError
from heron.rewards import Rubric, resolve, verifiers


def config_of(dataset: Path, size: int = 0, **data_settings: Any) -> Config:
    return load_config("arithmetic", {"data": {"dataset": str(dataset), **data_settings}, "evaluation": {"size": size}})


def written(path: Path, rows: Sequence[object]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def sums(*numbers: int) -> list[dict[str, str]]:
    return [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in numbers]


def only(findings: Sequence[Finding], word: str) -> Finding:
    """The one finding whose text has the word."""
    (found,) = [finding for finding in findings if word in finding.text]
    return found


def test_every_row_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    """Prevents: mending a file of a thousand rows one error a run."""
    file = written(tmp_path / "rows.jsonl", [*sums(1), "{broken", "", *sums(2), "[1]", {"text": "?"}, {"question": ""}, *sums(3)])
    dataset, counts, findings = read_rows(config_of(file))
    found = only(findings, "cannot be used")
    assert found.level is Level.ERROR and len(found.rows) == 4
    assert [line for line in (2, 5, 6, 7) if any(f"rows.jsonl:{line}" in row for row in found.rows)] == [2, 5, 6, 7]
    assert dataset is not None and [prompt.id for prompt in dataset.train] == ["rows.jsonl:1", "rows.jsonl:4", "rows.jsonl:8"]
    assert counts is not None and (counts.train, counts.unusable) == (3, 4)


@pytest.mark.parametrize(("name", "text", "bad"), [
    ("rows.csv", "question,answer\n1+1?,2\na,b,c\n2+2?,4\nx\n", (3, 5)),
    ("rows.json", json.dumps([{"question": "1+1?", "answer": "2"}, 7, {"question": "2+2?", "answer": "4"}, []]), (2, 4)),
])
def test_other_files_are_read_past_a_bad_row(tmp_path: Path, name: str, text: str, bad: tuple[int, ...]) -> None:
    """Prevents: a kind of file whose reader gives up at its first bad row."""
    (tmp_path / name).write_text(text)
    dataset, _, findings = read_rows(config_of(tmp_path / name))
    assert dataset is not None and len(dataset.train) == 2
    rows = only(findings, "cannot be used").rows
    assert len(rows) == 2 and all(f"{name}:{line}" in row for line, row in zip(bad, rows, strict=True))


def test_a_run_still_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    """Prevents: training that leaves rows out without a word, since the check can."""
    config = config_of(written(tmp_path / "rows.jsonl", [*sums(1), "{broken", *sums(2)]))
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        data.load(config.data, config.tags, seed=0, eval_size=0)


def test_a_dataset_without_any_good_row_is_a_finding(tmp_path: Path) -> None:
    """Prevents: losing what was wrong with the rows to an error about their number."""
    dataset, counts, findings = read_rows(config_of(written(tmp_path / "rows.jsonl", ["{", "[]"])))
    assert dataset is None and counts is None
    assert len(only(findings, "cannot be used").rows) == 2 and all(finding.level is Level.ERROR for finding in findings)


def test_overlap_with_the_held_out_rows_names_both(tmp_path: Path) -> None:
    """Prevents: a count of leaks without a way to find them."""
    written(tmp_path / "both" / "train.jsonl", sums(1, 2, 3))
    written(tmp_path / "both" / "test.jsonl", sums(9, 2))
    dataset, counts, findings = read_rows(config_of(tmp_path / "both", size=8))
    assert dataset is not None and dataset.dropped == 1 and counts is not None and counts.left_out == 1
    assert only(findings, "held-out question").rows == ("train.jsonl:2 asks what test.jsonl:2 asks",)


def test_duplicates_and_contradictions_are_told_apart(tmp_path: Path) -> None:
    """Prevents: two answers to one question going unseen among harmless repetitions."""
    rows = [*sums(*range(40)), *sums(5), {"question": " What is 7 + 1? ", "answer": "9"}]
    _, counts, findings = read_rows(config_of(written(tmp_path / "rows.jsonl", rows)))
    assert counts is not None and counts.duplicates == 2
    same = only(findings, "trained on all the same")
    assert same.level is Level.NOTE
    assert same.rows == ("rows.jsonl:41 asks what rows.jsonl:6 asks", "rows.jsonl:42 asks what rows.jsonl:8 asks")
    other = only(findings, "with another answer")
    assert other.level is Level.WARNING and len(other.rows) == 1 and "'9'" in other.rows[0] and "'8'" in other.rows[0]


def test_rows_of_a_game_are_no_duplicates(tmp_path: Path) -> None:
    """Prevents: thousands of contradictions in a game, whose rows all ask the same and hide what is to be found."""
    rows = [{"question": "Guess my number.", "answer": str(n)} for n in range(9)]
    _, counts, findings = read_rows(config_of(written(tmp_path / "rows.jsonl", rows)), question_is_all=False)
    assert counts is not None and counts.duplicates == 0 and findings == []


def test_every_answer_that_cannot_be_scored_is_named(tmp_path: Path) -> None:
    """Prevents: a gold answer that does not parse being met at step 400, or one at a time."""
    rows = [*sums(1), {"question": "a?", "answer": "cat"}, *sums(2), {"question": "b?", "answer": "3 or 4"}, {"question": "c?"}]
    dataset, _, _ = read_rows(config_of(written(tmp_path / "rows.jsonl", rows)))
    assert dataset is not None
    rubric = Rubric(resolve(["arithmetic.number_right"]), tags=config_of(tmp_path).tags)
    bad, findings = unscorable(dataset, rubric, SingleTurn(), verifiers["number"])
    assert bad == {"rows.jsonl:2", "rows.jsonl:4", "rows.jsonl:5"}
    (found,) = findings
    assert found.level is Level.ERROR and [name for name in sorted(bad) if any(name in row for row in found.rows)] == sorted(bad)


def test_held_out_answers_are_read_by_the_verifier_of_the_evaluation(tmp_path: Path) -> None:
    """Prevents: an evaluation that fails after the first hour."""
    written(tmp_path / "both" / "train.jsonl", sums(1, 2))
    written(tmp_path / "both" / "test.jsonl", [*sums(9), {"question": "who?", "answer": "Ann"}])
    config = config_of(tmp_path / "both", size=8)
    dataset, _, _ = read_rows(config)
    assert dataset is not None
    bad, findings = unscorable(dataset, Rubric([lambda completion: 1.0], tags=config.tags), SingleTurn(), verifiers["number"])
    assert bad == {"test.jsonl:2"} and "evaluation.verifier" in only(findings, "held-out").text
