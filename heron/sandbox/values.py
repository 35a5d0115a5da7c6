"""Python values as JSON and back, with their types: what crosses between a program and us instead of pickle.

The hard idea: plain JSON forgets (a tuple becomes a list, a key a string), and reading it is itself an attack surface. So containers
that JSON lacks are tagged, every value has one form, and the reader refuses what our writer cannot have written: duplicate keys, NaN,
unknown tags, nesting beyond a depth, numbers beyond a length, anything after the document. A value of any other type, a subclass of
`int` with its own `__eq__` included, becomes its type's name, which equals nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

DEEPEST = 64
"""Containers in containers."""
LONGEST_NUMBER = 4000
"""Digits; the interpreter's own limit is 4300."""
CONTAINERS: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|\d+')


class Unreadable(ValueError):
    """What a program reported is nothing that an honest one can report."""


class Foreign:
    """A value of a type that cannot be compared: it equals nothing, not even itself."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False


def encode(value: Any, depth: int = 0) -> Any:
    """A value as what `json.dumps` writes."""
    if depth > DEEPEST:
        return {"other": "nested too deeply"}
    kind = type(value)
    if value is None or kind in (bool, str) or (kind is int and value.bit_length() < 3 * LONGEST_NUMBER):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    if kind is dict:
        return {"dict": [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in value.items()]}
    if kind.__name__ in CONTAINERS and kind is CONTAINERS[kind.__name__]:
        return {kind.__name__: [encode(item, depth + 1) for item in value]}
    return {"other": kind.__name__}


def decode(form: Any) -> Any:
    """The value of a form that `encode` made; `Unreadable` for any other."""
    if not isinstance(form, dict):
        return [decode(item) for item in form] if isinstance(form, list) else form
    if len(form) != 1:
        raise Unreadable(f"a tag stands alone, but there are {len(form)}")
    ((tag, content),) = form.items()
    if tag == "other" and isinstance(content, str):
        return Foreign(content)
    if tag == "float" and content in ("inf", "-inf", "nan"):
        return float(content)
    if tag == "dict" and isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        return _hashed(dict, [(decode(key), decode(item)) for key, item in content])
    if tag in CONTAINERS and isinstance(content, list):
        return _hashed(CONTAINERS[tag], [decode(item) for item in content])
    raise Unreadable(f"there is no such value: {tag!r}")


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, all the way down: True is not 1, 1 is not 1.0, NaN equals nothing."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same_value(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict):
        return len(one) == len(other) and all(_same_key(key, other) and same_value(value, other[key]) for key, value in one.items())
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(_same_key(member, {each: each for each in other}) for member in one)
    return bool(one == other)


def read_json(text: bytes) -> Any:
    """One JSON document, strictly; `Unreadable` for anything else, whatever it is."""
    try:
        decoded = text.decode("utf-8")
        _measure(decoded)
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def _same_key(key: Any, among: dict[Any, Any]) -> bool:
    """Whether it is a key, of the same type: 1 finds True and 1.0, too."""
    return key in among and any(same_value(key, each) for each in among if each == key)


def _measure(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        depth += (mark in "[{") - (mark in "]}")
        if depth > 3 * DEEPEST:
            raise Unreadable(f"nested more than {3 * DEEPEST} deep")
        if mark[0].isdigit() and len(mark) > LONGEST_NUMBER:
            raise Unreadable(f"a number of {len(mark)} digits")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON")


def _hashed(container: Callable[[Any], Any], items: list[Any]) -> Any:
    try:
        made = container(items)
    except TypeError as error:
        raise Unreadable(str(error)) from None
    if len(made) != len(items):
        raise Unreadable("a member stands twice")
    return made
