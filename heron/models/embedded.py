"""The embedded default: a small Qwen3 built from scratch, with a byte-level tokenizer and tags that are single tokens.

It needs no download and can read any text. It knows nothing until `training.warmup` has shown it demonstrations. What it leaves
out: knowledge. It exists so that reinforcement learning can be seen to work in minutes on a laptop.
"""

from __future__ import annotations

from typing import Any

import torch

from heron.data.templates import TEMPLATES
from heron.types import Tags

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT_LENGTH = 1024


def build_tokenizer(tags: Tags) -> Any:
    """Every byte is a token, and so is every tag, role and end mark: any text survives the round trip."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([PAD, END, *ROLES])
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = TEMPLATES["heron"]
    return tokenizer


def build_config(tokenizer: Any) -> Any:
    """The shape of the model: about 2.1 million weights."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=640, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True, initializer_range=0.05, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, dtype="float32",
    )


def build_model(tokenizer: Any, *, seed: int) -> Any:
    """A Qwen3 of that shape with weights drawn from the seed, float32."""
    from transformers import Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(build_config(tokenizer)).float()
