"""Tokenizers in the forms that real models come with, learnt from a few lines: byte-level BPE with a rule of splitting, and the
SentencePiece-like kind with byte fallback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEXT = [
    "What is 30 + 4? The answer is 34, they'll say; it isn't 1234567.", "Hello world, HELLO  World!\n\n  two\tspaces   ",
    "Übermäßig naïve — 東京 🚀 done.", "the then there these other another mother", "<reasoning>12 + 7 = 19</reasoning>",
]
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
ROLES = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "</s>"}
CHATML = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_level(
    rule: str | None, *, ignore_merges: bool = False, special: Sequence[str] = SPECIAL, template: str = CHATML, **roles: str
) -> Any:
    """Splits text by this regular expression (None: by GPT-2's, which is built in), then merges bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule is None)
    backend.pre_tokenizer = levels if rule is None else pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(rule), "isolated"), levels])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=356 + len(special), special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    backend.train_from_iterator(TEXT * 3, trainer)
    return _wrap(backend, template, roles or ROLES)


def pieces(*, begins_with_space: bool, special: Sequence[str] = SPECIAL, template: str = CHATML, **roles: str) -> Any:
    """Pieces with `▁` for a space, and bytes for what is none: Llama 2's where a text gets a space before it, else Gemma's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    bytes_of_all = [f"<0x{byte:02X}>" for byte in range(256)]
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.train_from_iterator(TEXT * 3, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    told = json.loads(learnt.to_str())["model"]
    known = [word for word in told["vocab"] if not set(word) & set("東京🚀")]  # these are told by their bytes
    ids = {word: number for number, word in enumerate(["<unk>", *special, *bytes_of_all, *known])}
    merges = [(left, right) for left, right in told["merges"] if left + right in ids]
    backend = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if begins_with_space else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(list(special))
    return _wrap(backend, template, roles or ROLES)


def _wrap(backend: Any, template: str, roles: dict[str, str]) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **roles)
    tokenizer.chat_template = template
    return tokenizer


def save_with(tokenizer: Any, family: str, folder: Path, **settings: Any) -> Path:
    """A tiny random model of a family with this tokenizer."""
    from tinymodels import save_model

    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}
    save_model(family, folder, stirred=True, **ids | settings)
    tokenizer.save_pretrained(folder)
    return folder
