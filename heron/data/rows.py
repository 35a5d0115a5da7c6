"""One row of any accepted shape, as a `Prompt`.

Accepted are `messages`, `prompt` (text or messages), `question` and `problem`, looked for in this order, with the
reference in `answer` or `solution`, or as the conversation's last assistant message. The hard part is to lose nothing:
every column stays at hand for rewards, and where `answer` is replaced by the number after GSM8K's `####`, the text that
it came from stays as `solution`. Not handled: images, tool calls, and conversations that end with a tool's reply.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.errors import ConfigError, DataError, did_you_mean
from heron.types import Message, Prompt, Tags

PROMPT_COLUMNS = ("messages", "prompt", "question", "problem")
ANSWER_COLUMNS = ("answer", "solution")
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as it was read."""

    id: str
    """`<file name>:<line>`."""
    columns: Mapping[str, Any]
    """Values by column; None where the file has none."""


def to_prompt(
    row: Row, *, prompt_column: str | None = None, answer_column: str | None = None, section: str = "data"
) -> Prompt:
    """The row's conversation and columns. With `answer` among the columns, if the row has a reference. Errors name `section`'s settings."""
    column = _prompt_column(row, prompt_column, section)
    messages, said = _conversation(row, column)
    is_text = isinstance(row.columns[column], str)
    return Prompt(
        id=row.id,
        messages=messages,
        columns=_with_reference(row, _reference(row, answer_column, said)),
        plain=is_text and column not in ("question", "problem"),
    )


def last_answer(row: Row, *, prompt_column: str | None = None, section: str = "data") -> str | None:
    """What the assistant says at the end of the row's conversation, or None where that ends with a question."""
    return _conversation(row, _prompt_column(row, prompt_column, section))[1]


def with_system_prompt(prompt: Prompt, text: str) -> Prompt:
    """The prompt with `text` before everything else: before the row's own system message, where it has one."""
    first, *rest = prompt.messages
    if first["role"] == "system":
        text, remaining = f"{text}\n\n{first['content']}", tuple(rest)
    else:
        remaining = prompt.messages
    return dataclasses.replace(prompt, messages=({"role": "system", "content": text}, *remaining))


def fill_tags(text: str, tags: Tags) -> str:
    """`text` with `{reasoning_start}` and the other three replaced; other braces are left alone."""
    values = {field.name: getattr(tags, field.name) for field in dataclasses.fields(tags)}

    def value(match: re.Match[str]) -> str:
        word = match[1]
        if word not in values and (hint := did_you_mean(word, values)):
            raise ConfigError(f'data.system_prompt has "{{{word}}}", which is not the name of a tag.{hint}')
        return values.get(word, match[0])

    return re.sub(r"\{(\w+)\}", value, text)


def _prompt_column(row: Row, asked: str | None, section: str) -> str:
    if asked is not None:
        return present(row, asked, f"{section}.prompt_column")
    for column in PROMPT_COLUMNS:
        if row.columns.get(column) is not None:
            return column
    raise DataError(
        f"{row.id} has no prompt: none of {', '.join(PROMPT_COLUMNS)} is among its columns "
        f"({_listed(row)}). Name the right one with {section}.prompt_column."
    )


def present(row: Row, column: str, setting: str) -> str:
    """The column, if the row has a value in it; else a `DataError` that names the setting."""
    if row.columns.get(column) is None:
        hint = did_you_mean(column, row.columns)
        raise DataError(f'{row.id} has no column "{column}" ({setting}). Its columns: {_listed(row)}.{hint}')
    return column


def _listed(row: Row) -> str:
    return ", ".join(str(column) for column in row.columns) or "none"


def _conversation(row: Row, column: str) -> tuple[tuple[Message, ...], str | None]:
    """The messages up to the last user message, and what the assistant says after it."""
    value = row.columns[column]
    if isinstance(value, str) and column != "messages":
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list | tuple) or not value:
        shapes = "a list of messages" if column == "messages" else "text or a list of messages"
        raise DataError(f'{row.id}: "{column}" must be {shapes}, but it is {_short(value)}.')
    messages = [_message(row, column, item) for item in value]
    said = str(messages.pop()["content"]) if messages[-1]["role"] == "assistant" else None
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise DataError(
            f'{row.id}: "{column}" does not end with a user message that asks something: {_short(value)}. '
            "At most one assistant message may follow it."
        )
    return tuple(messages), said


def _message(row: Row, column: str, item: Any) -> Message:
    """One message in the form that chat templates expect. `developer` is OpenAI's newer word for `system`."""
    is_message = isinstance(item, Mapping) and item.get("role") in ROLES and isinstance(item.get("content"), str)
    if not is_message:
        raise DataError(
            f'{row.id}: "{column}" holds {_short(item)}, which is not a message. '
            f'A message is {{"role": one of {", ".join(ROLES)}, "content": text}}.'
        )
    role = "system" if item["role"] == "developer" else item["role"]
    return {key: value for key, value in item.items() if value is not None} | {"role": role}


def _reference(row: Row, asked: str | None, said: str | None) -> Any:
    """The reference as the row has it, or None."""
    if asked is not None:
        return row.columns[present(row, asked, "data.answer_column")]
    given = (row.columns[column] for column in ANSWER_COLUMNS if row.columns.get(column) is not None)
    return next(given, said)


def _with_reference(row: Row, reference: Any) -> dict[str, Any]:
    columns = {column: value for column, value in row.columns.items() if column != "answer"}
    if reference is None:
        return columns
    if isinstance(reference, str) and "####" in reference:
        if columns.get("solution") is None:
            columns["solution"] = reference
        reference = final_answer(row, reference)
    return columns | {"answer": reference}


def final_answer(row: Row, text: str) -> str:
    """What GSM8K writes after the last `####`; a number loses its `$` and its thousands commas."""
    final = text.rpartition("####")[2].strip()
    if not final:
        raise DataError(f'{row.id}: nothing stands after "####" in the answer {_short(text)}.')
    number = final.replace("$", "").replace(",", "").strip()
    return number if re.fullmatch(r"[-+]?\d*\.?\d+\.?", number) else final


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
