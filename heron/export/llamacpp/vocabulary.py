"""The words of a model as GGUF holds them: tokens, what kind each is, merges or scores, and the special ones.

Two kinds of tokenizer are known. Byte-level BPE (Llama 3, Qwen, Phi-4, Heron's own): merges, and the name of the rule that splits text
before, which llama.cpp has built in; it is found here by the rule itself, not by the model's name. SentencePiece-like BPE (Llama 2,
Mistral, Gemma): llama.cpp joins the pair whose piece has the best score, so the rank of the merge becomes the score.

The one hard idea: whether llama.cpp is to put the begin token before a text is decided by the chat template. A model that was trained on
prompts with it, or without it, is asked like that, whatever its tokenizer did elsewhere.

Left out: Unigram tokenizers, and normalisation (Qwen's NFC), which llama.cpp has not: text in another form becomes other tokens there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heron.errors import ModelError
from heron.export.llamacpp.settings import Settings

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""What a token is, as GGUF numbers it."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}|\p{{N}}{{1,3}}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_GPT2 = "gpt-2"  # the rule that tokenizers' ByteLevel has built in

SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,), "qwen2": (_WORDS % r"\p{N}",), "llama-bpe": (_WORDS % r"\p{N}{1,3}",), "dbrx": (_WORDS % r"\p{N}{1,3}",),
    "gpt-4o": (_CASED,), "starcoder": ("digits", _GPT2),
}
"""llama.cpp's names for rules of splitting. `llama-bpe` looks for whole words first, `dbrx` (Phi-4) does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a file says of words."""

    model: str
    """`gpt2` is byte-level BPE, `llama` SentencePiece-like."""
    pre: str
    """Name of the rule that splits text."""
    tokens: tuple[str, ...]
    """By id, as many as the embedding has rows."""
    types: tuple[int, ...]
    """What each is."""
    merges: tuple[str, ...] = ()
    """Of byte-level BPE: `left right`, the first one first."""
    scores: tuple[float, ...] = ()
    """Of the other kind: the highest is joined first."""
    special: Mapping[str, int]
    """Ids of `bos`, `eos`, `eot`, `eom`, `unknown`, `padding`, where there are such."""
    adds_bos: bool
    """llama.cpp puts the begin token before a text."""
    adds_space: bool = False
    """llama.cpp puts a space before a text, and behind each special token."""
    template: str
    """Chat template, in Jinja."""

    def settings(self) -> Settings:
        """As a file holds it."""
        ids = {f"tokenizer.ggml.{name}_token_id": token for name, token in self.special.items()}
        lists: Settings = {"tokenizer.ggml.tokens": self.tokens, "tokenizer.ggml.token_type": self.types}
        if self.model == "llama":
            lists |= {"tokenizer.ggml.scores": self.scores, "tokenizer.ggml.add_space_prefix": self.adds_space}
        else:
            lists["tokenizer.ggml.merges"] = self.merges or (_NO_MERGE,)
        return {"tokenizer.ggml.model": self.model, "tokenizer.ggml.pre": self.pre, **lists, **ids,
                "tokenizer.ggml.add_bos_token": self.adds_bos, "tokenizer.chat_template": self.template}


_NO_MERGE = "\u2063 \u2063"
"""Stands where a vocabulary has no merges, since a list in a file must not be empty: no text in byte-level letters holds these."""


def vocabulary_of(tokenizer: Any, ends: frozenset[int], rows: int, *, adds_bos: bool) -> Vocabulary:
    """The vocabulary of a fast tokenizer.

    Args:
        tokenizer: of transformers.
        ends: every token that ends an answer.
        rows: of the embedding; tokens beyond it cannot be used, and rows without a token are filled up.
        adds_bos: prompts begin with the begin token.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} keeps its words outside of tokenizer.json, so they cannot be written as GGUF. Export "
                         "with --format hf.")
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    if model["type"] != "BPE":
        raise ModelError(f"A tokenizer of type {model['type']} cannot be written as GGUF; BPE can. Export with --format hf.")
    added = {entry["id"]: entry for entry in told["added_tokens"]}
    is_pieces = bool(model.get("byte_fallback"))
    tokens, types = _tokens(model, added, rows)
    common: dict[str, Any] = {
        "tokens": tokens, "types": types, "special": _special(tokenizer, ends), "adds_bos": adds_bos,
        "template": tokenizer.chat_template,
    }
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    if is_pieces:
        return Vocabulary(model="llama", pre="default", scores=_scores(tokens, merges), adds_space=_adds_space(tokenizer), **common)
    return Vocabulary(model="gpt2", pre=_split_rule(told), merges=merges, **common)


def _tokens(model: Mapping[str, Any], added: Mapping[int, Mapping[str, Any]], rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    words = {number: word for word, number in model["vocab"].items()}
    plain = {"▁": " "} if model.get("byte_fallback") else {}  # llama.cpp looks for a user's tokens in the text as it is
    for number, entry in added.items():
        words[number] = entry["content"].translate(str.maketrans({} if entry["special"] else plain))

    def kind(number: int) -> int:
        if number not in words:
            return UNUSED
        if words[number] == model.get("unk_token"):
            return UNKNOWN
        if number in added:
            return CONTROL if added[number]["special"] else USER_DEFINED
        is_byte = model.get("byte_fallback") and len(words[number]) == 6 and words[number].startswith("<0x")
        return BYTE if is_byte else NORMAL

    return tuple(words.get(number, f"[PAD{number}]") for number in range(rows)), tuple(kind(number) for number in range(rows))


def _special(tokenizer: Any, ends: frozenset[int]) -> dict[str, int]:
    """GGUF has places for three tokens that end an answer."""
    first = [tokenizer.eos_token_id] if tokenizer.eos_token_id in ends else []
    ordered = first + sorted(ends - set(first))
    if len(ordered) > 3:
        raise ModelError(f"This model ends answers with {len(ordered)} tokens, {ordered}, and a GGUF file has places for three. Leave some "
                         "out of eos_token_id in generation_config.json.")
    named = {"bos": tokenizer.bos_token_id, "unknown": tokenizer.unk_token_id, "padding": tokenizer.pad_token_id,
             **dict(zip(("eos", "eot", "eom"), ordered, strict=False))}
    return {name: int(token) for name, token in named.items() if token is not None}


def _scores(tokens: Sequence[str], merges: Sequence[str]) -> tuple[float, ...]:
    """The rank of the first merge that makes a piece, downwards from 0; what no merge makes comes last."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return tuple(-float(ranks.get(token, len(merges))) for token in tokens)


def _adds_space(tokenizer: Any) -> bool:
    """A text behind a special token gets a space before it, which is what llama.cpp does if it is told to add one."""
    special = next((token for token in (tokenizer.bos_token, tokenizer.eos_token) if token), None)
    ids = tokenizer(f"{special or ''}a", add_special_tokens=False)["input_ids"]
    return "▁" in "".join(tokenizer.convert_ids_to_tokens(ids[1 if special else 0:]))


def _split_rule(told: Mapping[str, Any]) -> str:
    """llama.cpp's name for the rule by which this tokenizer splits text before it merges."""
    before = told["pre_tokenizer"] or {}
    steps = before.get("pretokenizers", [before])
    rules = tuple(rule for step in steps if (rule := _rule(step)) is not None)
    whole_words = bool(told["model"].get("ignore_merges"))
    if not rules and not told["model"]["merges"]:
        return "gpt-2"  # without merges every byte is a token, however a text is split
    for name, known in SPLITS.items():
        if rules == known and whole_words == (name == "llama-bpe"):
            return name
    raise ModelError(f"llama.cpp has no rule of splitting text that is known to be this tokenizer's: {json.dumps(before)[:400]}. "
                     "Export with --format hf, and convert that folder with a tool that knows this tokenizer.")


def _rule(step: Mapping[str, Any]) -> str | None:
    """A step as `SPLITS` names it; None for one that splits nothing."""
    kind = step.get("type")
    if kind == "Split" and "Regex" in step["pattern"] and (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True)):
        return str(step["pattern"]["Regex"])
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return _GPT2 if step["use_regex"] else None
    if kind == "Digits" and step["individual_digits"]:
        return "digits"
    return json.dumps(step)
