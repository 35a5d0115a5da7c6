"""Python values as JSON and back, with their types: what crosses between a program and us instead of pickle.

The hard idea: plain JSON forgets (a tuple becomes a list, a key a string), and reading it is itself an attack surface. So containers
that JSON lacks are tagged, every value has one form, and the reader refuses what our writer cannot have written: duplicate keys, NaN,
unknown tags, nesting beyond a depth, numbers beyond a length, anything after the document. To be compared, what a program reported is not
made into values here, since numbers that share one hash fill a set as slowly as their author likes: forms are compared as text
(`canonical`), in which sets and dicts are sorted, and all work grows with the length of the text. A value of any other type, a subclass
of `int` with its own `__eq__` included, becomes its type's name, which equals nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

DEEPEST = 64
"""Containers in containers."""
DEEPEST_FORM = 3 * DEEPEST + 1
"""Brackets in brackets: a dict has three, and around an answer is one."""
LONGEST_NUMBER = 4000
"""Digits; the interpreter's own limit is 4300. Longer integers are tagged and hexadecimal, which takes no longer to read than to skip."""
LONG_BITS = 12000
"""From here on an integer is tagged; it has 3613 digits."""
MOST_MEMBERS = 1000
"""Of a set or dict that is made here of what a program reported: time grows with the square if their hashes are alike."""
CONTAINERS: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
FLOATS = ("inf", "-inf", "nan")
"""Those that JSON lacks."""
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]|\d+', re.DOTALL)
"""Also a string that does not end is one token: otherwise each quote in it would be looked at as another start."""
_HEXADECIMAL = re.compile(r"-?0x[1-9a-f][0-9a-f]*")


class Unreadable(ValueError):
    """What a program reported is nothing that an honest one can report."""


def encode(value: Any, depth: int = 0) -> Any:
    """A value as what `json.dumps` writes."""
    if depth > DEEPEST:
        return {"other": "nested too deeply"}
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < LONG_BITS else {"int": hex(value)}
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
    """The value of a form that `encode` made of a plain value. For arguments, beside a program; what it reported is for `received`."""
    if not isinstance(form, dict):
        return [decode(item) for item in form] if isinstance(form, list) else form
    ((tag, content),) = form.items()
    if tag == "dict":
        return {decode(key): decode(item) for key, item in content}
    if tag in CONTAINERS:
        return CONTAINERS[tag](decode(item) for item in content)
    return int(content, 16) if tag == "int" else float(content)


def canonical(form: Any) -> str:
    """One text for all forms of values that are equal and of the same types all the way down; `Unreadable` for what `encode` cannot make.

    True is not 1 and 1 is not 1.0, but -0.0 is 0.0, as everywhere in arithmetic. What `is_comparable` denies has a text, too.
    """
    if isinstance(form, list):
        return f"[{','.join(map(canonical, form))}]"
    if not isinstance(form, dict):
        return _plain(form)
    if len(form) != 1:
        raise Unreadable(f"a tag stands alone, but there are {len(form)}")
    ((tag, content),) = form.items()
    if tag == "dict" and isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        return f"dict{_sorted([(canonical(key), canonical(item)) for key, item in content])}"
    if tag == "tuple" and isinstance(content, list):
        return f"tuple{canonical(content)}"
    if tag in CONTAINERS and isinstance(content, list):
        return f"{tag}{_sorted([(canonical(item), '') for item in content])}"
    if _is_tagged(tag, content):
        return f"{tag} {json.dumps(content)}"
    raise Unreadable(f"there is no such value: {tag!r}")


def is_comparable(form: Any) -> bool:
    """Whether it is the form of a value that equals itself: nothing of another type and no NaN in it."""
    if isinstance(form, list):
        return all(map(is_comparable, form))
    if not isinstance(form, dict):
        return True
    ((tag, content),) = form.items()
    return tag != "other" and content != "nan" and is_comparable(content)


def received(form: Any) -> Any:
    """The value of a form that a program reported; `Unreadable` where it has none here, or too many members to be made without haste."""
    canonical(form)
    _check_members(form)
    try:
        return decode(form)
    except TypeError as error:
        raise Unreadable(str(error)) from None


def read_answer(line: bytes) -> tuple[str, Any]:
    """What `calls` wrote of one call: `result` and a form, or `raised` and words."""
    entry = read_json(line)
    if not isinstance(entry, dict) or len(entry) != 1:
        raise Unreadable("an entry is one result, or what was raised")
    ((kind, content),) = entry.items()
    if kind != "result" and (kind != "raised" or not isinstance(content, str)):
        raise Unreadable("an entry is one result, or what was raised")
    return kind, content


def read_json(text: bytes) -> Any:
    """One JSON document, strictly; `Unreadable` for anything else, whatever it is."""
    try:
        decoded = text.decode("utf-8")
        _measure(decoded)
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def _plain(form: Any) -> str:
    """Of what JSON has by itself."""
    if isinstance(form, float):
        if not math.isfinite(form):
            raise Unreadable("a number that is none, or infinite, is tagged")
        return repr(form + 0.0)
    return str(form) if type(form) is int else json.dumps(form)


def _sorted(members: list[tuple[str, str]]) -> str:
    """Members, or keys and what they stand for, in the order of their texts."""
    members.sort()
    for (one, _), (other, _) in itertools.pairwise(members):
        if one == other:
            raise Unreadable("a member stands twice")
    return f"{{{','.join(f'{member}:{item}' for member, item in members)}}}"


def _check_members(form: Any) -> None:
    if isinstance(form, dict):
        ((tag, form),) = form.items()
        if tag == "other":
            raise Unreadable(f"a value of the type {form}")
        if tag in ("dict", "set", "frozenset") and len(form) > MOST_MEMBERS:
            raise Unreadable(f"a {tag} of more than {MOST_MEMBERS} members")
    if isinstance(form, list):
        for item in form:
            _check_members(item)


def _is_tagged(tag: str, content: Any) -> bool:
    """Whether it is one of the scalar values that JSON lacks, in its one form."""
    if not isinstance(content, str):
        return False
    if tag == "int":
        return len(content) > LONG_BITS // 4 and _HEXADECIMAL.fullmatch(content) is not None
    return tag == "other" or (tag == "float" and content in FLOATS)


def _measure(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        depth += (mark in "[{") - (mark in "]}")
        if depth > DEEPEST_FORM:
            raise Unreadable(f"nested more than {DEEPEST_FORM} deep")
        if mark[0].isdigit() and len(mark) > LONGEST_NUMBER:
            raise Unreadable(f"a number of {len(mark)} digits")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON")
