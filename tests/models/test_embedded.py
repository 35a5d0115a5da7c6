"""The embedded model and its tokenizer."""

from __future__ import annotations

import random

import pytest
import torch
from tinymodels import TAGS

from heron.models import Policy
from heron.models.embedded import build_model, build_tokenizer
from heron.types import Tags

TOKENIZER = build_tokenizer(TAGS)
ODD = [
    "", " ", "\n", "\t\r\n", "plain", "What is 347 + 158?", "don 't stop .", "  two  spaces  ",
    "héllo wörld", "e\u0301 is not é", "日本語", "🦆🇩🇪👩‍👩‍👧",
    "\u2063\u200b\ufeff", "\x00\x01\x7f", "Ａ１", "ﬁ ligature", "<", "</", "<SOLUTION",
    "<start_working_out", "<|en", "\U0010ffff", "a\u0300\u0316b",
]


@pytest.mark.parametrize("text", ODD)
def test_any_text_survives(text: str) -> None:
    """Prevents: normalisation, clean-up of spaces, or characters that are unknown."""
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == TOKENIZER.decode(ids, skip_special_tokens=True) == text


def test_random_unicode_survives() -> None:
    draw = random.Random(0)
    for _ in range(300):
        points = [draw.randrange(draw.choice((0x80, 0x800, 0xD800, 0x110000))) for _ in range(draw.randint(1, 20))]
        text = "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
        ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        assert TOKENIZER.decode(ids, skip_special_tokens=True) == text


OTHER_TAGS = Tags(reasoning_start="<reasoning>", reasoning_end="</reasoning>", solution_start="<answer>", solution_end="</answer>")


@pytest.mark.parametrize("tags", [TAGS, OTHER_TAGS])
def test_tags_are_single_tokens_wherever_they_stand(tags: Tags) -> None:
    """A tag of one token is sampled whole or not at all; spaces and letters around it must not change that."""
    tokenizer = build_tokenizer(tags)
    single = [tokenizer.convert_tokens_to_ids(tag) for tag in tags]
    assert len(set(single)) == 4
    for tag, token in zip(tags, single, strict=True):
        for left, right in (("", ""), (" ", " "), ("a", "b"), ("\n", "\n"), (tag, tag)):
            ids = tokenizer(left + tag + right, add_special_tokens=False)["input_ids"]
            assert token in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == left + tag + right, "tags are text: rewards must see them"


def test_a_partial_answer_of_bytes_decodes() -> None:
    """A sampled answer may break off inside a character; that is text with a replacement mark, not an error."""
    ids = TOKENIZER("é", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    assert TOKENIZER.decode(ids[:1]) == "\ufffd"


def test_vocabulary_is_distinct_and_fits_the_model() -> None:
    model = build_model(TOKENIZER, seed=0)
    assert sorted(TOKENIZER.get_vocab().values()) == list(range(len(TOKENIZER)))
    assert model.get_output_embeddings().weight.shape[0] == len(TOKENIZER)
    assert TOKENIZER.eos_token_id != TOKENIZER.pad_token_id


def test_weights_depend_on_the_seed_alone() -> None:
    """Prevents: a start that differs from run to run, and a global random state that is moved by building a model."""
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = (build_model(TOKENIZER, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_size_is_what_the_guide_says() -> None:
    model = build_model(TOKENIZER, seed=0)
    assert 1.5e6 < sum(weight.numel() for weight in model.parameters()) < 4e6
    assert model.dtype is torch.float32


def test_rendered_prompt_is_special_tokens_and_bytes() -> None:
    """The template's role marks must be tokens of their own, not spelt out in bytes."""
    model = build_model(TOKENIZER, seed=0)
    model.set_attn_implementation("sdpa")
    policy = Policy(model, TOKENIZER, tags=TAGS, source="test")
    ids = policy.render([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}])
    special = [TOKENIZER.convert_tokens_to_ids(t) for t in ("<|system|>", "<|end|>", "<|user|>", "<|assistant|>")]
    system, end, user, assistant = special
    assert ids == (system, *policy.encode("S"), end, user, *policy.encode("Q"), end, assistant)
