"""The reward for JSON by a schema: hostile documents cost a bounded time, and bad schemas are found before training."""

import json
import time

import pytest

from heron.errors import DataError, RewardError
from heron.rewards import Rubric, json_schema
from heron.rewards.json_schema import follows_schema
from heron.types import Tags

TAGS = Tags()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "[1e999]", '{"n": 1e400}'])
@pytest.mark.parametrize("schema", [{"multipleOf": 0.1}, {"type": "integer"}, {"uniqueItems": True}])
def test_a_number_beyond_every_float_is_no_json(number: str, schema: dict) -> None:
    """Prevents: an OverflowError out of the library, which ends the run for an answer that a model wrote."""
    assert follows_schema(number, schema, TAGS) == -1.0


@pytest.mark.parametrize(
    ("document", "score"),
    [
        ("[1, 2, 3]", 1), ("[1, 2, 1]", 0), ("[1, 1.0]", 0), ("[1, true]", 1), ("[0, false]", 1), ("[true, true]", 0), ('["1", 1]', 1),
        ('[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', 0), ('[{"a": 1}, {"a": true}]', 1), ("[[1, 2], [2, 1]]", 1), ("[[], {}]", 1),
        ("[null, null]", 0), ("5", 1), ("[[true], [1]]", 1), ('["list", ["list"]]', 1),
    ],
)  # fmt: skip
def test_unique_items(document: str, score: float) -> None:
    """Prevents: another idea of what is equal than JSON Schema's."""
    assert follows_schema(document, {"uniqueItems": True}, TAGS) == score


def test_many_unique_items_are_compared_in_linear_time() -> None:
    """Prevents: a long list of objects, each of which is compared with each, so that a right answer is late."""
    follows_schema("[]", {"uniqueItems": True}, TAGS)  # starts the process
    begun = time.perf_counter()
    assert follows_schema(json.dumps([{"a": number} for number in range(6000)]), {"uniqueItems": True}, TAGS) == 1.0
    assert time.perf_counter() - begun < 2


def test_a_pattern_that_never_ends_costs_its_deadline(monkeypatch) -> None:
    """Prevents: a trainer that stands still at one answer, and an answer that is paid because nobody could look."""
    monkeypatch.setattr(json_schema, "SECONDS", 0.5)
    begun = time.perf_counter()
    with pytest.warns(UserWarning, match=r"json_schema has given up 1 request"):
        assert follows_schema('"' + "a" * 40 + '!"', {"pattern": "^(a+)+$"}, TAGS) == 0.0
    assert time.perf_counter() - begun < 5
    assert follows_schema('"aaa"', {"pattern": "^(a+)+$"}, TAGS) == 1.0


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/$defs/b"}}}, {"properties": {"a": {"$ref": "http://example.org/s"}}}, {"$dynamicRef": "#x"},
        {"$ref": "#/parts/x", "parts": {"x": {"items": {"$ref": "#/parts/y"}}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"$ref": "#/definitions/b"}}},
        {"anyOf": [{"not": {"$ref": "#/$defs/b"}}]},
    ],
)  # fmt: skip
def test_a_reference_to_nothing_is_found_before_training(schema: dict, make_rollout) -> None:
    """Prevents: a run that ends at the first answer which has the property that the broken reference describes."""
    with pytest.raises(RewardError, match="schema"):
        follows_schema("5", schema, TAGS)
    with pytest.raises(DataError, match=r"rows\.jsonl:1.*follows_schema"):
        Rubric([follows_schema], tags=TAGS).check([make_rollout(schema=schema).prompt])


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "integer"}}, "$ref": "#/definitions/a"},
        {"$defs": {"n": {"$anchor": "n", "type": "integer"}}, "$ref": "#n"},
        {"$id": "http://example.org/a", "$ref": "b", "$defs": {"b": {"$id": "b", "type": "integer"}}},
        {"type": "integer", "enum": [5, {"$ref": "#/nowhere"}]},
        {"$ref": "#/parts/n", "parts": {"n": {"type": "integer"}}},
        {"$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree", "type": "integer"},
    ],
)  # fmt: skip
def test_references_within_the_schema_are_followed(schema: dict) -> None:
    """Prevents: a check that refuses good schemas, or goes round in circles."""
    assert [follows_schema(text, schema, TAGS) for text in ("5", '"5"')] == [1.0, 0.0]


def test_a_document_as_deep_as_the_interpreter_is_scored() -> None:
    """Prevents: a recursion that ends the run."""
    assert follows_schema("[" * 5000 + "]" * 5000, {"items": {"$ref": "#"}}, TAGS) in (-1.0, 0.0)
