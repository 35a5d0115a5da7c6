"""Rows to demonstrations: how answers are found and written, and what is kept apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from heron.config import DataConfig, WarmupConfig, load_config
from heron.data.demonstrations import Lessons, read_lessons
from heron.errors import ConfigError, DataError
from heron.rewards.gsm8k import soft_format, strict_format
from heron.types import Prompt, Tags

TAGS = Tags(reasoning_start="<r>", reasoning_end="</r>", solution_start="<a>", solution_end="</a>")
GSM8K = {"question": "Two a day, for 3 days?", "answer": "She has 2*3=<<2*3=6>>6 of them.\nSo six.\n#### $1,006"}


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(
    folder: Path, *rows: Mapping[str, Any], data: DataConfig | None = None, measured: Sequence[Prompt] = (), **settings: Any
) -> Lessons:
    config = WarmupConfig(dataset=write(folder, rows), **{"eval_size": 0} | settings)
    return read_lessons(config, data or DataConfig(), TAGS, measured=measured)


def completion(folder: Path, row: Mapping[str, Any], **settings: Any) -> str:
    (lesson,) = read(folder, row, **settings).train
    return lesson.completion


@pytest.mark.parametrize("column", ["completion", "response", "output"])
def test_columns_with_answers(tmp_path: Path, column: str) -> None:
    """Prevents: the reference, which is only a number, being learnt instead of the answer."""
    assert completion(tmp_path, {"question": "q", "answer": "2", column: "<a>2</a>"}) == "<a>2</a>"


def test_named_columns(tmp_path: Path) -> None:
    row = {"ask": "q", "question": "other", "text": "said", "completion": "other"}
    lesson = read(tmp_path, row, prompt_column="ask", completion_column="text").train[0]
    assert (lesson.prompt.question, lesson.completion) == ("q", "said")


def test_conversations(tmp_path: Path) -> None:
    """Prevents: the last answer lost among the columns, and earlier ones lost altogether."""
    said = [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    lesson = read(tmp_path, {"messages": [{"role": role, "content": text} for role, text in said], "answer": "7"}).train[0]
    assert [(message["role"], message["content"]) for message in lesson.prompt.messages] == said[:4]
    assert lesson.completion == "b"


def test_prompts_and_completions_as_lists_of_messages(tmp_path: Path) -> None:
    """Prevents: the way in which TRL writes them being refused."""
    row = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
    assert completion(tmp_path, row) == "a"


def test_gsm8k_in_the_layout_that_its_rewards_pay_for(tmp_path: Path) -> None:
    """Prevents: a warm-up on a format that scores nothing, or that teaches the calculator's marks."""
    text = completion(tmp_path, GSM8K, format="gsm8k")
    assert text == "<r>\nShe has 2*3=6 of them.\nSo six.\n</r>\n<a>\n1006\n</a>"
    assert (strict_format(text, TAGS), soft_format(text, TAGS)) == (0.5, 0.5)
    with pytest.raises(DataError, match=r'rows.jsonl:1 has no answer in the form of GSM8K: "####"'):
        completion(tmp_path, {"question": "q", "answer": "6"}, format="gsm8k")


def test_a_format_of_columns_and_tags(tmp_path: Path) -> None:
    """Prevents: braces in a column being filled in again, and columns that are not there being left out in silence."""
    row = {"question": "q", "steps": "{answer} x", "answer": "so\n#### 42"}
    text = "{reasoning_start}{steps}{reasoning_end}{solution_start}{answer}{solution_end}"
    assert completion(tmp_path, row, format=text) == "<r>{answer} x</r><a>42</a>"
    with pytest.raises(DataError, match=r"rows.jsonl:1 has no 'step', which warmup.format wants. There are: question, steps"):
        completion(tmp_path, row, format="{step}")


@pytest.mark.parametrize(("row", "settings", "words"), [
    ({"question": "q", "answer": "2"}, {}, "no answer to learn: .* completion, response, output"),
    ({"question": "q", "completion": " "}, {}, "empty answer"),
    ({"question": "q", "completion": 5}, {}, '"completion" must be a text or one assistant message, but it is 5'),
    ({"question": "q"}, {"completion_column": "said"}, r'no column "said" \(warmup.completion_column\)'),
    ({"completion": "a"}, {}, "Name the right one with warmup.prompt_column"),
])
def test_rows_without_an_answer_are_named(tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    """Prevents: learning to say nothing, and advice that names settings of another section."""
    with pytest.raises(DataError, match=rf"rows.jsonl:1.*{words}"):
        read(tmp_path, row, **settings)


def test_what_is_measured_is_not_learnt(tmp_path: Path) -> None:
    """The promise of the table before and after, for demonstrations too: also where a later turn asks it, or with other white space."""
    turns = [{"role": role, "content": text} for role, text in (("user", "hello"), ("assistant", "hi"), ("user", "held out? "))]
    rows = [{"question": "free?", "completion": "a"}, {"question": " held out?", "completion": "a"}, {"messages": turns, "completion": "a"}]
    measured = [Prompt(id="test:1", messages=({"role": "user", "content": "held out?"},))]
    lessons = read(tmp_path, *rows, measured=measured)
    assert [lesson.prompt.question for lesson in lessons.train] == ["free?"] and lessons.dropped == 2
    with pytest.raises(DataError, match=r"No demonstration is left .* all 2"):
        read(tmp_path, *rows[1:], measured=measured)


def test_some_are_set_aside_with_all_that_ask_the_same(tmp_path: Path) -> None:
    """Prevents: a loss "after" on rows that were learnt by heart."""
    rows = [{"question": f"{number % 15}?", "completion": str(number)} for number in range(30)]
    lessons = read(tmp_path, *rows, eval_size=32)
    questions = [{lesson.prompt.question for lesson in part} for part in (lessons.train, lessons.heldout)]
    assert len(questions[1]) == 6 and not questions[0] & questions[1] and len(lessons.train) + len(lessons.heldout) == 30
    assert read(tmp_path, *rows, eval_size=32) == lessons
    assert read(tmp_path, *rows, eval_size=32, seed=1) != lessons


def test_the_run_s_system_prompt_stands_before_demonstrations_too(tmp_path: Path) -> None:
    """Prevents: a warm-up on other prompts than those that are trained on afterwards."""
    lesson = read(tmp_path, {"question": "q", "completion": "a"}, data=DataConfig(system_prompt="Use {solution_start}.")).train[0]
    assert lesson.prompt.messages[0] == {"role": "system", "content": "Use <a>."}


@pytest.mark.parametrize(("settings", "words"), [
    ({"epochs": 2}, "warmup.epochs is 2, but the demonstrations are generated"),
    ({"format": "gsm8k"}, "warmup.format is 'gsm8k', but"),
    ({"dataset": "arithmetic", "limit": 3}, "warmup.limit is 3, but the demonstrations are generated .*'arithmetic'"),
    ({"dataset": "rows.jsonl", "forget_carry": 0.1}, "warmup.forget_carry is 0.1, but the demonstrations are read"),
    ({"dataset": "rows.jsonl", "format": "gms8k"}, 'neither one of row, gsm8k nor .*Did you mean "gsm8k"'),
    ({"dataset": "rows.jsonl", "format": "gsm8k", "completion_column": "x"}, "warmup.completion_column is of use to warmup.format"),
    ({"dataset": "rows.jsonl", "steps": 3, "epochs": 2}, "say the same thing twice"),
    ({"dataset": "rows.jsonl", "epochs": 0}, "warmup.epochs must be at least 1"),
])
def test_settings_that_could_do_nothing(settings: dict[str, Any], words: str) -> None:
    """Prevents: a setting that somebody means something by, and that nothing reads."""
    with pytest.raises(ConfigError, match=words):
        load_config("arithmetic", {"warmup": settings})


@pytest.mark.parametrize("settings", [{"split": "test"}, {"subset": "main"}])
def test_parts_of_a_file_that_has_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"warmup\.{next(iter(settings))} is "):
        read(tmp_path, {"question": "q", "completion": "a"}, **settings)
