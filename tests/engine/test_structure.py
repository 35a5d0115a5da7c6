"""Structured output: whatever is drawn from random logits matches."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
import torch
from test_sampler import END, POLICY, SIZE, certain, sampler, sequence

from heron.engine import SamplingParams
from heron.engine.native.sampler import Sampler
from heron.engine.native.sequence import Branch, Sequence, new_sequence
from heron.engine.structure import Grammar, Structure
from heron.errors import ConfigError, MissingExtra
from heron.types import Completion, FinishReason

pytest.importorskip("llguidance")

ANSWER = Structure(regex=r"(yes|no), [0-9]{1,3}( é+)?")
SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "n"],
    "properties": {"name": {"enum": ["ab", "abc"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
}


def random_logits(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)) * 2


def finish(one: Sampler, sequences: list[Sequence], *, seed: int = 0, steps: int = 200) -> list[str]:
    """Draw from random logits until all have ended; their texts."""
    for step in range(steps):
        branches = [Branch(sequences=[each]) for each in sequences]
        one.draw(random_logits(len(sequences), 1000 * seed + step), branches)
    assert all(each.finish_reason is not None for each in sequences)
    return [POLICY.decode(each.token_ids) for each in sequences]


def sequences(count: int) -> list[Sequence]:
    return [new_sequence(0, number, (1, 2), number, None) for number in range(count)]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"top_p": 0.8, "min_p": 0.05}, {"repetition_penalty": 1.3, "top_k": 4}])
def test_regex_holds_whatever_is_drawn(settings: dict[str, Any]) -> None:
    """Prevents: a mask after the filters (which may leave nothing), and an end token before the text is whole."""
    drawn = sequences(12)
    texts = finish(sampler(structure=ANSWER, max_tokens=200, **settings), drawn)
    assert all(re.fullmatch(ANSWER.regex, text) for text in texts), texts
    assert {each.finish_reason for each in drawn} == {FinishReason.STOP}
    assert all(logprob > -30 for each in drawn for logprob in each.logprobs)


def test_schema_holds_whatever_is_drawn() -> None:
    drawn = sequences(8)
    texts = finish(sampler(structure=Structure.of_schema(SCHEMA), max_tokens=200, min_p=0.01), drawn)
    for each, text in zip(drawn, texts, strict=True):
        if each.finish_reason is FinishReason.STOP:
            found = json.loads(text)
            assert found.keys() == {"name", "n"}
            assert found["name"] in ("ab", "abc")
            assert 0 <= found["n"] <= 99
    assert sum(each.finish_reason is FinishReason.STOP for each in drawn) >= 4


def test_logprobs_are_those_of_the_masked_distribution() -> None:
    """The second letter of "yes" is certain: log-prob 0, entropy 0."""
    one = sequence()
    draw = sampler(structure=Structure(regex="yes"))
    for _ in range(3):
        draw.draw(random_logits(1, 5), [Branch(sequences=[one])])
    assert POLICY.decode(one.token_ids) == "yes"
    assert one.logprobs == pytest.approx([0.0] * 3, abs=1e-6)
    assert one.entropies == pytest.approx([0.0] * 3, abs=1e-6)
    assert one.finish_reason is FinishReason.STOP, "nothing can follow, so it is whole without an end token"


def test_end_is_allowed_only_where_whole() -> None:
    """Prevents: an answer that ends in the middle although the model wants to end at once."""
    one, draw = sequence(), sampler(structure=Structure(regex="ab|abc"))
    for _ in range(3):
        if one.finish_reason is None:
            draw.draw(certain(END), [Branch(sequences=[one])])
    assert POLICY.decode(one.token_ids) == "ab"
    assert one.token_ids[-1] == END


def test_siblings_share_nothing() -> None:
    """Two that have said the same go different ways: the matcher of one must not hear the other."""
    both = [sequence(sibling=0, seed=1), sequence(sibling=1, seed=2)]
    draw = sampler(structure=Structure(regex="[ab]{12}x"))
    branches = [Branch(sequences=both)]
    for step in range(13):
        draw.draw(random_logits(len(branches), step) * 0, branches)
        branches = [Branch(sequences=members) for branch in branches for members in branch.split()]
    texts = [POLICY.decode(one.token_ids) for one in both]
    assert texts[0] != texts[1]
    assert all(re.fullmatch("[ab]{12}x", text) for text in texts)


@pytest.mark.parametrize("cut", [1, 4])
def test_continued_elsewhere_is_the_same(cut: int) -> None:
    """A completion that was paused and goes on with another sampler, or was recomputed, ends as if nothing had happened."""
    whole, part = sequences(1)[0], sequences(1)[0]
    finish(sampler(structure=ANSWER, max_tokens=200), [whole])
    for step in range(cut):
        sampler(structure=ANSWER, max_tokens=200).draw(random_logits(1, step), [Branch(sequences=[part])])
    said = Completion(token_ids=tuple(part.token_ids), logprobs=tuple(part.logprobs), entropies=tuple(part.entropies),
                      finish_reason=FinishReason.PAUSED, policy_version=3, versions=((3, cut),))
    again = new_sequence(0, 0, (1, 2), 0, said)
    draw = sampler(structure=ANSWER, max_tokens=200)
    for step in range(cut, 200):
        draw.draw(random_logits(1, step), [Branch(sequences=[again])])
    assert again.token_ids == whole.token_ids


def test_continued_with_another_structure_is_an_error() -> None:
    one = sequence()
    one.token_ids = list(POLICY.encode("maybe"))
    sampler(structure=ANSWER).draw(random_logits(1, 0), [Branch(sequences=[one])])
    assert "does not fit its structure" in str(one.wrong) and one.finish_reason is None


def test_vocabulary_wider_than_the_tokenizer() -> None:
    """Prevents: a mask that is too short where the embedding is padded, and padding that is drawn."""
    one, draw = sequence(), sampler(structure=Structure(regex="[0-9]{20}"))
    wide = type(POLICY)()
    wide.vocabulary_size = SIZE + 57
    draw = Sampler(wide, SamplingParams(max_tokens=50, structure=Structure(regex="[0-9]{20}")))  # type: ignore[arg-type]
    while one.finish_reason is None:
        draw.draw(torch.zeros(1, SIZE + 57).index_fill_(1, torch.arange(SIZE, SIZE + 57), 30.0), [Branch(sequences=[one])])
    assert re.fullmatch("[0-9]{20}", POLICY.decode(one.token_ids))


@pytest.mark.parametrize("wrong", [{}, {"regex": "a", "json_schema": "{}"}, {"regex": 3}, {"json_schema": {"type": "string"}}])
def test_structure_is_one_of_two(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="json_schema"):
        Structure(**wrong)


@pytest.mark.parametrize("wrong", [{"regex": "a(("}, {"json_schema": "{bad"}, {"json_schema": '{"type": "nosuch"}'}])
def test_what_cannot_be_parsed_is_named(wrong: dict[str, Any]) -> None:
    """Before anything is sampled, with the reason."""
    with pytest.raises(ConfigError, match=r"a\(\(|JSON|nosuch"):
        Grammar(Structure(**wrong), POLICY)  # type: ignore[arg-type]


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a bare ImportError, or a structure that is silently not enforced."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra, match="structured"):
        sampler(structure=ANSWER)


def test_no_completions_end_with_ignored_ends() -> None:
    with pytest.raises(ConfigError, match="ignore_end"):
        SamplingParams(max_tokens=3, ignore_end=True, structure=ANSWER)
