"""What every side of `benchmarks.sampling` is asked to do: saved random models, prompts, and when an answer ends.

The one hard idea: a random model never learns to stop, so a load names its end tokens, and every side is told the same ones. With one
token in 44 among them, lengths are geometric with a mean of 44: most answers are short, a few reach the cap, and nobody knows which.
The models of `save_counting` go further: each token is followed by the next number, so that a prompt's last token decides how long its
answer is, to the token, for whichever engine. What it leaves out: how the sides do it (`sampling_sides`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM

FIRST_WORD = 2048
"""Prompts are drawn from the tokens from here on; end tokens and the numbers of a counting model lie below."""
FIRST_NUMBER = 1024
"""Where a counting model's numbers begin."""
SHARPNESS = 40.0
"""Logit of the next number in a counting model; all others together weigh less than 1e-10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Qwen3 with random weights."""

    name: str
    """In the table."""
    vocabulary: int
    """Entries."""
    width: int
    """Of the hidden states."""
    inner: int
    """Of the MLP."""
    layers: int
    """How many."""
    heads: int
    """Of queries, 64 wide."""
    key_heads: int
    """Of keys and values."""


SMALL = Shape(name="10 M", vocabulary=8192, width=384, inner=960, layers=5, heads=6, key_heads=2)
WIDE = Shape(name="10 M, key head per query head", vocabulary=8192, width=320, inner=864, layers=6, heads=5, key_heads=5)
LARGE = Shape(name="100 M", vocabulary=32_768, width=768, inner=2304, layers=11, heads=12, key_heads=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of one shape."""

    name: str
    """In the table."""
    prompts: int
    """How many different ones."""
    siblings: int
    """Answers to each."""
    prompt_tokens: int
    """Of every prompt."""
    max_tokens: int
    """Most of an answer."""
    ends: tuple[int, ...] = ()
    """Tokens that end an answer, and are its last; none: all answers are `max_tokens` long."""

    @property
    def answers(self) -> int:
        """Of all prompts."""
        return self.prompts * self.siblings

    def draw(self, vocabulary: int, seed: int) -> list[tuple[int, ...]]:
        """Prompts of random words, the same ones for the same seed."""
        draw = random.Random(seed)
        return [tuple(draw.randrange(FIRST_WORD, vocabulary) for _ in range(self.prompt_tokens)) for _ in range(self.prompts)]


def rollout(shape: Shape, *, prompt_tokens: int = 256) -> Load:
    """Shaped like a step of GRPO: long prompts, eight siblings, answers of 44 tokens on average, 192 at most."""
    return Load(
        name="rollout", prompts=8, siblings=8, prompt_tokens=prompt_tokens, max_tokens=192, ends=tuple(range(shape.vocabulary // 44))
    )


PLAIN = Load(name="plain decode", prompts=64, siblings=1, prompt_tokens=32, max_tokens=128)
"""Nothing to share, nothing that ends early: only the speed of a step counts."""


def save_model(folder: Path, shape: Shape) -> Path:
    """The model with a tokenizer, in Hugging Face format."""
    from heron.models.embedded import build_tokenizer
    from heron.types import Tags

    model = _random_model(shape, tied=True)
    model.save_pretrained(folder)
    build_tokenizer(Tags()).save_pretrained(folder)
    return folder


def save_counting(folder: Path, shape: Shape) -> Path:
    """A model of the same cost (its head is its own) that answers every token with the next one."""
    import torch

    from heron.models.embedded import build_tokenizer
    from heron.types import Tags

    model = _random_model(shape, tied=False)
    with torch.no_grad():
        embedding = torch.randn(shape.vocabulary, shape.width)
        model.model.embed_tokens.weight.copy_(embedding)
        model.lm_head.weight.copy_(embedding.roll(1, 0) * (SHARPNESS / shape.width))
    model.save_pretrained(folder)
    build_tokenizer(Tags()).save_pretrained(folder)
    return folder


def _random_model(shape: Shape, *, tied: bool) -> Qwen3ForCausalLM:
    import torch
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(_config(shape, tied=tied))


def _config(shape: Shape, *, tied: bool) -> Qwen3Config:
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads, head_dim=64, max_position_embeddings=1024,
        tie_word_embeddings=tied, eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )
