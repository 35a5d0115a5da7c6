"""Rewards for JSON that follows a schema (the extra `schema`).

The hard idea: a model writes the document, so reading it must be strict and bounded: one value and nothing else, no NaN, no key twice, no
depth that ends the interpreter. The schema is yours; references out of it are not fetched. Left out: whether the values are right.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from heron.errors import MissingExtra, RewardError
from heron.rewards.answers import said
from heron.rewards.verifying import checks_row
from heron.types import Tags

LONGEST = 100_000
"""Characters of a document that is read."""


def check_schema(columns: Mapping[str, Any]) -> None:
    """Raises RewardError for a schema that is none."""
    _validator(_text(columns["schema"]))


@checks_row(check_schema)
def follows_schema(completion: str, schema: Mapping[str, Any] | str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the answer is JSON that follows the column `schema` (an object, or its text), 0 if it is other JSON, -1 if it is none.

    A fence around it (three backticks, with or without `json`) is free.
    """
    validator = _validator(_text(schema))
    text = _unfenced(said(completion, tags, prefilled))
    try:
        document = strict_json(text)
    except (ValueError, RecursionError):
        return -1.0
    try:
        return 1.0 if validator.is_valid(document) else 0.0
    except RecursionError:
        return 0.0


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what standard JSON does not know, for a key twice, and for a very long text."""
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)


def _text(schema: Mapping[str, Any] | str) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _unfenced(text: str) -> str:
    if text.startswith("```") and text.endswith("```") and len(text) >= 6:
        return text[3:-3].removeprefix("json").strip()
    return text


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """Made once for each schema."""
    try:
        import jsonschema
        from referencing import Registry
    except ImportError as error:
        raise MissingExtra("jsonschema", "schema", "The reward json_schema.follows_schema") from error
    try:
        parsed = strict_json(schema)
        kind = jsonschema.validators.validator_for(parsed, default=jsonschema.Draft202012Validator)
        kind.check_schema(parsed)
    except (ValueError, jsonschema.SchemaError) as error:
        problem = str(error).splitlines()[0]
        raise RewardError(f"The schema {schema[:120]!r} is none: {problem}. Correct the row's column schema.") from error
    return kind(parsed, registry=Registry())
