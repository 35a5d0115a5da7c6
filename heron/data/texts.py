"""The texts inside plain values, such as messages or the arguments of a call.

The hard idea: JSON and Python can write half a character (a lone surrogate such as `\\ud800`), which no tokenizer and no file takes. So a
model could end a run with it. Here it is found, and written out as what it is: a backslash, `ud800`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


def texts_in(value: Any) -> Iterator[str]:
    """Every string in a value, keys too, however deep."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each


def half_character(value: Any) -> str | None:
    """The first half of a character in a value, written out; None if all its texts are whole."""
    found = next((match for text in texts_in(value) if (match := _HALF.search(text))), None)
    return None if found is None else made_whole(found[0])


def made_whole(text: str) -> str:
    """The text with every half of a character written out, and nothing else changed."""
    return text.encode("utf-8", "backslashreplace").decode()
