"""What a warm-up learns from: rows with questions and answers, or additions worked out by a sloppy pupil.

The hard idea: a demonstration must not give away what is measured later. Whoever asks a question that the run holds out is left out,
and counted; and some demonstrations are set aside themselves, so that the loss before and after is of none that was learnt from.

An answer is what the assistant says at the end of `messages`, the column `completion`, `response` or `output`, or is written from
columns by a format. What it leaves out: tokens, and so the rows that are too long (`training.demonstrations`).
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heron.config.generated import is_task
from heron.config.schema import DataConfig
from heron.config.warmup import WarmupConfig
from heron.data import tasks
from heron.data.arithmetic import Demonstration, demonstrations
from heron.data.rows import Row, fill_tags, final_answer, last_answer, present, to_prompt, with_system_prompt
from heron.data.sources import WHOLE, open_source
from heron.errors import ConfigError, DataError
from heron.types import Prompt, Tags

COMPLETION_COLUMNS = ("completion", "response", "output")
CALCULATOR = re.compile(r"<<[^<>]*>>")
"""What GSM8K writes beside its sums, as in `2*3=<<2*3=6>>6`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Demonstrations to learn from, and some to measure the loss on."""

    train: tuple[Demonstration, ...]
    """In the dataset's order."""
    heldout: tuple[Demonstration, ...]
    """None of their questions is in `train`."""
    dropped: int
    """Left out because they ask what the run holds out."""


def read_lessons(config: WarmupConfig, data: DataConfig, tags: Tags, *, measured: Sequence[Prompt]) -> Lessons:
    """The demonstrations that the config asks for, under the run's system prompt, apart from what is `measured`."""
    found = teach(config, digits=data.digits, difficulty=data.difficulty, tags=tags) if config.is_generated else _read(config, tags)
    asked = {prompt.question.strip() for prompt in measured}
    kept = [lesson for lesson in found if not asked & _questions(lesson)]
    if not kept:
        raise DataError(f"No demonstration is left to learn from: all {len(found)} of {config.dataset} ask what the run holds out for its "
                        "evaluation. Name other rows as warmup.dataset, or as data.eval_dataset.")
    train, heldout = _set_aside(kept, config)
    if data.system_prompt is not None:
        text = fill_tags(data.system_prompt, tags)
        train, heldout = _under(train, text), _under(heldout, text)
    return Lessons(train=tuple(train), heldout=tuple(heldout), dropped=len(found) - len(kept))


def teach(config: WarmupConfig, *, digits: int, difficulty: int, tags: Tags) -> list[Demonstration]:
    """The generated demonstrations."""
    if config.dataset is not None and is_task(config.dataset):
        return tasks.demonstrations(
            config.dataset, config.demonstrations, seed=config.seed, difficulty=difficulty, mistakes=config.mistakes, tags=tags,
        )
    return demonstrations(
        config.demonstrations, seed=config.seed, digits=digits, tags=tags, forget_carry=config.forget_carry,
        skip_working=config.skip_working, break_format=config.break_format,
    )


def _read(config: WarmupConfig, tags: Tags) -> list[Demonstration]:
    assert not config.is_generated
    source = open_source(str(config.dataset), config.subset, section="warmup")
    if not source.is_divided and config.split != WarmupConfig.__dataclass_fields__["split"].default:
        raise ConfigError(f"warmup.split is {config.split!r}, but {source.name} is not divided into splits, so it would do nothing. Leave "
                          "it out.")
    rows = source.rows(config.split if source.is_divided else WHOLE, config.limit)
    return [_demonstration(row, config, tags) for row in rows]


def _demonstration(row: Row, config: WarmupConfig, tags: Tags) -> Demonstration:
    prompt = to_prompt(row, prompt_column=config.prompt_column, section="warmup")
    text = _completion(row, prompt, config, tags)
    if not text.strip():
        raise DataError(f"{row.id} has an empty answer, of which nothing can be learnt. Remove the row, or name the right column with "
                        "warmup.completion_column.")
    return Demonstration(prompt=prompt, completion=text)


def _completion(row: Row, prompt: Prompt, config: WarmupConfig, tags: Tags) -> str:
    if config.format == "gsm8k":
        return _gsm8k(row, tags)
    if config.format != "row":
        return _filled(config.format, row, prompt, tags)
    if config.completion_column is not None:
        return _text(row, present(row, config.completion_column, "warmup.completion_column"))
    if (said := last_answer(row, prompt_column=config.prompt_column, section="warmup")) is not None:
        return said
    found = next((column for column in COMPLETION_COLUMNS if row.columns.get(column) is not None), None)
    if found is None:
        raise DataError(f"{row.id} has no answer to learn: no assistant speaks last in it, and none of {', '.join(COMPLETION_COLUMNS)} is "
                        f"among its columns ({', '.join(map(str, row.columns))}). Name the right one with warmup.completion_column, or "
                        "write answers from columns with warmup.format.")
    return _text(row, found)


def _text(row: Row, column: str) -> str:
    """The column's text; or what the one message in it says, as TRL writes completions."""
    value = row.columns[column]
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], Mapping) and value[0].get("role") == "assistant":
        value = value[0].get("content")
    if not isinstance(value, str):
        raise DataError(f'{row.id}: "{column}" must be a text or one assistant message, but it is {value!r:.80}.')
    return value


def _gsm8k(row: Row, tags: Tags) -> str:
    """Reasoning and number of `... #### 42`, every tag on a line of its own; without the calculator's marks."""
    texts = [value for column in ("answer", "solution") if isinstance(value := row.columns.get(column), str) and "####" in value]
    if not texts:
        raise DataError(f'{row.id} has no answer in the form of GSM8K: "####" and a number behind it, in the column answer or solution. '
                        "Leave the row out, or choose another warmup.format.")
    reasoning = CALCULATOR.sub("", texts[0].rpartition("####")[0]).strip()
    lines = (tags.reasoning_start, reasoning, tags.reasoning_end, tags.solution_start, final_answer(row, texts[0]), tags.solution_end)
    return "\n".join(lines)


def _filled(text: str, row: Row, prompt: Prompt, tags: Tags) -> str:
    """The format with the row's columns and the tags filled in; `{answer}` is the reference as rewards see it."""
    known: dict[str, Any] = {**row.columns, **prompt.columns, **{tag.name: getattr(tags, tag.name) for tag in dataclasses.fields(tags)}}

    def value(match: re.Match[str]) -> str:
        if known.get(match[1]) is None:
            raise DataError(f"{row.id} has no {match[1]!r}, which warmup.format wants. There are: {', '.join(map(str, known))}.")
        return str(known[match[1]])

    if "{" in (rest := re.sub(r"\{[^{}]*\}", "", text)) or "}" in rest:
        raise DataError(f"warmup.format has a brace without its other half: {text!r}. Columns and tags are written as {{answer}}.")
    return re.sub(r"\{([^{}]*)\}", value, text)


def _questions(lesson: Demonstration) -> set[str]:
    return {str(message["content"]).strip() for message in lesson.prompt.messages if message["role"] == "user"}


def _set_aside(lessons: Sequence[Demonstration], config: WarmupConfig) -> tuple[list[Demonstration], list[Demonstration]]:
    """What is learnt from, and at most `eval_size` questions and a fifth of the rows to measure on."""
    asked = sorted({_asked(lesson) for lesson in lessons})
    count = min(config.eval_size, len(lessons) // 5, len(asked) - 1)
    drawn = set(random.Random(f"set aside with seed {config.seed}").sample(asked, count))
    heldout = [lesson for lesson in lessons if _asked(lesson) in drawn]
    return [lesson for lesson in lessons if _asked(lesson) not in drawn], heldout


def _asked(lesson: Demonstration) -> str:
    """What opens the conversation: later messages of a user, such as a game's hints, are no questions of their own."""
    return str(next(message["content"] for message in lesson.prompt.messages if message["role"] == "user")).strip()


def _under(lessons: Sequence[Demonstration], system_prompt: str) -> list[Demonstration]:
    return [dataclasses.replace(lesson, prompt=with_system_prompt(lesson.prompt, system_prompt)) for lesson in lessons]
