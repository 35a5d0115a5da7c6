"""Templates of graders: texts with `{{ item.COLUMN }}` and `{{ sample.output_text }}` in them, to be filled in for each answer.

The hard idea: what is filled in is not looked at again, so a reply that is itself a template stays a text. And nothing is made up: a column
that a row lacks, or that is null, is an error, since the word "null" would be an answer that a reply can give. Values other than texts are
written as JSON. Left out: places in lists (`item.names[0]`) and every other variable of the sample.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from heron.errors import ConfigError, RewardError

Filled = Callable[[str, Mapping[str, Any]], str]
"""`(output text, columns of the row)` to a text."""

SAMPLE = "sample.output_text"
_VARIABLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_ITEM = re.compile(r"item\.([A-Za-z_]\w*)((?:\.\w+)*)")


def template(text: str, place: str, key: str) -> Filled:
    """The text as a function; `key` of the file at `place` is named in errors."""
    for variable in _VARIABLE.findall(text):
        if variable != SAMPLE and not _ITEM.fullmatch(variable):
            raise ConfigError(f"{place}: {key} has the variable {{{{{variable}}}}}, which is not known. "
                              f"There are {{{{item.COLUMN}}}} and {{{{{SAMPLE}}}}}.")
    return lambda output, item: _VARIABLE.sub(lambda match: output if match[1] == SAMPLE else _item(match[1], item, place), text)


def shows_reply(text: str) -> bool:
    """Whether the answer is filled in somewhere."""
    return SAMPLE in _VARIABLE.findall(text)


def check_items(data: Any, columns: Mapping[str, Any], place: str) -> None:
    """Raises RewardError for a row that has not what a template in the data names."""
    for variable in _items(data):
        _item(variable, columns, place)


def columns_in(data: Any) -> list[str]:
    """Columns that templates name, wherever they stand in the data."""
    return [variable.split(".")[1] for variable in _items(data)]


def _items(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _items(value) if key != "source" else ()
    elif isinstance(data, list):
        for part in data:
            yield from _items(part)
    elif isinstance(data, str):
        yield from filter(_ITEM.fullmatch, _VARIABLE.findall(data))


def _item(variable: str, item: Mapping[str, Any], place: str) -> str:
    value: Any = item
    for name in variable.split(".")[1:]:
        if not isinstance(value, Mapping) or name not in value:
            raise RewardError(f"{place}: the row has no {variable}; it has {', '.join(item)}.")
        value = value[name]
    if value is None:
        raise RewardError(f"{place}: {variable} of the row is null, which is no text. Give it a value (an empty text where nothing is "
                          "meant), or leave the row out.")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
