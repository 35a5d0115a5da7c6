"""A small random model in the place of each recipe's: the family's architecture, special tokens, end tokens and form of a conversation.

The one hard idea: what goes wrong between a recipe and a model is seldom in the weights. It is a role that the template does not know, an
end token that is another one, a system prompt that is moved, a tag that is split. So a stand-in has those of the real model, and a
vocabulary that is learnt from a few lines. The templates say the same as the models' own, in fewer words: no tools, and a date only in
that of Llama 3.2, which writes today's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from family_table import FAMILIES

from tests.export.vocabularies import byte_level, pieces, save_with

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] | trim %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n\\n' + first + '<|eot_id|>' }}"
    "{% for message in rest %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA_DATED = LLAMA.replace("December 2023\\n\\n'", "December 2023\\nToday Date: ' + strftime_now('%d %b %Y') + '\\n\\n'")
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + (first if loop.first else '')"
    " + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}"
    "{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for message in rest %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + (first if loop.last else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
GPT_4 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""The rule of splitting of Llama 3 and phi-4, nearly; Qwen's takes one digit at a time."""
QWEN = GPT_4.replace("{1,3}", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standin:
    """What is the real model's, and not drawn."""

    family: str
    """Row of the table of families: its architecture and its options."""
    template: str
    """Of a conversation."""
    special: Sequence[str]
    """Special tokens that the template or the model writes."""
    roles: Mapping[str, str]
    """What they are to the tokenizer."""
    rule: str | None
    """How text is split before bytes are merged; None for pieces with byte fallback, as SentencePiece makes them."""
    ends: Sequence[str] = ()
    """End tokens of generation_config.json besides the tokenizer's."""

    def save(self, folder: Path) -> Path:
        """Model, tokenizer and generation_config.json."""
        how = {"special": self.special, "template": self.template, **self.roles}
        tokenizer = pieces(begins_with_space=False, **how) if self.rule is None else byte_level(self.rule, **how)
        family = next(family for family in FAMILIES if family.name == self.family)
        save_with(tokenizer, family.architecture, folder, **{"max_position_embeddings": 4096, **family.settings})
        path = folder / "generation_config.json"
        ends = [tokenizer.convert_tokens_to_ids(token) for token in (self.roles["eos_token"], *self.ends)]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))
        return folder


_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA = Standin(
    family="Llama 3.1", template=LLAMA, rule=GPT_4,
    special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
    roles={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, ends=("<|end_of_text|>", "<|eom_id|>"),
)
STANDINS: Mapping[str, Standin] = {
    "gsm8k": Standin(
        family="Qwen3", template=CHATML, special=_QWEN, roles={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, rule=QWEN,
        ends=("<|endoftext|>",)),
    "qwen3-4b": Standin(
        family="Qwen3", template=CHATML, special=_QWEN, roles={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, rule=QWEN),
    "deepseek-r1-qwen3-8b": Standin(
        family="Qwen3 with YaRN", template=DEEPSEEK, rule=QWEN,
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        roles={"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "<｜end▁of▁sentence｜>"}),
    "llama-3.2-3b": Standin(
        family="Llama 3.2", template=LLAMA_DATED, special=_LLAMA.special, roles=_LLAMA.roles, rule=GPT_4, ends=_LLAMA.ends),
    "gemma-3-1b": Standin(
        family="Gemma 3", template=GEMMA, special=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), rule=None,
        roles={"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}, ends=("<end_of_turn>",)),
    "phi-4": Standin(
        family="Phi-4", template=PHI, special=("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"), rule=GPT_4,
        roles={"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}),
    "qwen2.5-3b": Standin(
        family="Qwen2.5", template=CHATML, special=_QWEN, roles={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, rule=QWEN,
        ends=("<|endoftext|>",)),
    "mistral-7b-v0.3": Standin(
        family="Mistral v0.3", template=MISTRAL, special=("<s>", "</s>", "[INST]", "[/INST]"), rule=None,
        roles={"bos_token": "<s>", "eos_token": "</s>"}),
    "llama-3.1-8b": _LLAMA,
}
"""By recipe."""
