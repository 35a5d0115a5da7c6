"""Rewards for JSON that follows a schema (the extra `schema`).

The hard idea: a model writes the document, so reading it must be strict and bounded: one value and nothing else, no NaN, no number beyond
every float, no key twice, no depth that ends the interpreter. And a schema that is harmless to read may be endless to apply (a pattern that
backtracks, alternatives within alternatives), so it is applied in a process that is killed after `SECONDS`; the document then gets 0, and
is counted. The schema is yours: what is wrong with it, references that lead nowhere included, is found before training, and references out
of it are not fetched. Left out: whether the values are right.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from heron.errors import MissingExtra, RewardError
from heron.rewards.answers import said
from heron.rewards.calling import waits
from heron.rewards.verifying import checks_row
from heron.rewards.workers import Pool, WorkerLost
from heron.types import Tags

LONGEST = 100_000
"""Characters of a document that is read."""
SECONDS = 5.0
"""For one document."""
MEMORY_BYTES = 1 << 30
CHILDREN = 2
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def check_schema(columns: Mapping[str, Any]) -> None:
    """Raises RewardError for a schema that is none."""
    _validator(_text(columns["schema"]))


@waits(CHILDREN)
@checks_row(check_schema)
def follows_schema(completion: str, schema: Mapping[str, Any] | str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the answer is JSON that follows the column `schema` (an object, or its text), 0 if it is other JSON, -1 if it is none.

    A fence around it (three backticks, with or without `json`) is free.
    """
    wanted = _text(schema)
    _validator(wanted)
    text = _unfenced(said(completion, tags, prefilled))
    try:
        strict_json(text)
    except (ValueError, RecursionError):
        return -1.0
    try:
        return 1.0 if _pool().ask({"schema": wanted, "document": text}, seconds=SECONDS) else 0.0
    except WorkerLost:
        return 0.0


def serve(argument: None) -> Callable[[Any], bool]:
    """What a child does with a request."""

    def follows(request: Mapping[str, str]) -> bool:
        try:
            return bool(_validator(request["schema"]).is_valid(strict_json(request["document"])))
        except RecursionError:
            return False

    return follows


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what standard JSON does not know, for a key twice, for a number beyond every float,
    and for a very long text."""
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    return json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_float, object_pairs_hook=_object)


def _text(schema: Mapping[str, Any] | str) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.40} is beyond every float")
    return value


def _integer(text: str) -> int:
    _float(text)
    return int(text)


def _unfenced(text: str) -> str:
    if text.startswith("```") and text.endswith("```") and len(text) >= 6:
        return text[3:-3].removeprefix("json").strip()
    return text


@functools.cache
def _pool() -> Pool:
    """One for the process."""
    return Pool("heron.rewards.json_schema:serve", size=CHILDREN, memory_bytes=MEMORY_BYTES)


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """Made once for each schema."""
    try:
        import jsonschema
        import referencing
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise MissingExtra("jsonschema", "schema", "The reward json_schema.follows_schema") from error
    try:
        parsed = strict_json(schema)
        kind = jsonschema.validators.validator_for(parsed, default=jsonschema.Draft202012Validator)
        kind.check_schema(parsed)
        _refuse_dangling(parsed, kind.META_SCHEMA)
    except (ValueError, RecursionError, jsonschema.SchemaError, Unresolvable) as error:
        problem = str(error).splitlines()[0]
        raise RewardError(f"The schema {schema[:120]!r} is none: {problem}. Correct the row's column schema.") from error
    return jsonschema.validators.extend(kind, {"uniqueItems": _unique_items})(parsed, registry=referencing.Registry())


def _refuse_dangling(schema: Any, dialect: Mapping[str, Any]) -> None:
    """Raises Unresolvable for a reference that leads nowhere; those of what is referred to are looked up as well."""
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012, specification_with

    specification = specification_with(str(dialect.get("$id") or dialect.get("id")), default=DRAFT202012)
    root = specification.create_resource(schema)
    waiting, seen = [(schema, REGISTRY.resolver_with_root(root))], set()
    while waiting:
        contents, resolver = waiting.pop()
        if id(contents) in seen or not isinstance(contents, Mapping):
            continue
        seen.add(id(contents))
        found = [resolver.lookup(contents[name]) for name in REFERENCES if isinstance(contents.get(name), str)]
        waiting += [(each.contents, each.resolver) for each in found]
        below = specification.create_resource(contents).subresources()
        waiting += [(each.contents, resolver.in_subresource(each)) for each in below]


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """jsonschema's own compares each with each."""
    from jsonschema import ValidationError

    if wanted and validator.is_type(instance, "array") and len({_hashable(item) for item in instance}) < len(instance):
        yield ValidationError("has items that are equal")


def _hashable(value: Any) -> Hashable:
    """Equal for values that JSON Schema calls equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, list):
        return ("list", *map(_hashable, value))
    if isinstance(value, dict):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    return (bool, value) if isinstance(value, bool) else value  # type: ignore[no-any-return]
