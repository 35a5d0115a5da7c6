"""Text to tokens as llama.cpp does it, from nothing but what a file says: the proof that its words were written right.

Special tokens are cut out first, the longest first. Between them, byte-level BPE splits by the named rule and merges by rank (here by
the package `tokenizers`); the SentencePiece-like kind joins, again and again, the neighbours whose piece has the highest score. It is
for prompts, not for books: the latter takes time by the square of a text's length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heron.export.llamacpp.vocabulary import CONTROL, SPLITS, USER_DEFINED

Encode = Callable[[str], list[int]]


def encoder_of(file: Any) -> Encode:
    """What llama.cpp would make of a text whose special tokens are written out, by the settings of an open file."""

    def told(key: str) -> Any:
        found = file.get_field(f"tokenizer.ggml.{key}")
        return None if found is None else found.contents()

    tokens, types = told("tokens"), told("token_type")
    ids = {token: number for number, token in enumerate(tokens)}
    special = sorted((token for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)), key=len, reverse=True)
    if told("model") == "llama":
        plain = _by_scores(ids, told("scores"), bool(told("add_space_prefix")))
    else:
        plain = _by_merges(ids, told("merges"), told("pre"))

    def encode(text: str) -> list[int]:
        return [token for piece, is_special in _parts(text, special) for token in ([ids[piece]] if is_special else plain(piece))]

    return encode


def _parts(text: str, special: list[str]) -> Iterator[tuple[str, bool]]:
    """The text cut at its special tokens, and whether each part is one."""
    found = next((token for token in special if token in text), None)
    if found is None:
        yield from [(text, False)] if text else []
        return
    rest = [token for token in special if token is not found]
    for number, between in enumerate(text.split(found)):
        if number:
            yield found, True
        yield from _parts(between, rest)


def _by_merges(ids: dict[str, int], merges: list[str], rule: str) -> Encode:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges) if left in ids and right in ids]
    backend = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=rule == "llama-bpe"))
    steps: list[Any] = []
    for step in SPLITS[rule]:
        if step == "digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif step != "gpt-2":
            steps.append(pre_tokenizers.Split(Regex(step), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex="gpt-2" in SPLITS[rule]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return lambda text: backend.encode(text, add_special_tokens=False).ids


def _by_scores(ids: dict[str, int], scores: list[float], adds_space: bool) -> Encode:
    def encode(text: str) -> list[int]:
        pieces = list(((" " if adds_space else "") + text).replace(" ", "▁"))
        while pairs := [(-scores[ids[pair]], at) for at in range(len(pieces) - 1) if (pair := pieces[at] + pieces[at + 1]) in ids]:
            at = min(pairs)[1]
            pieces[at:at + 2] = [pieces[at] + pieces[at + 1]]
        return [token for piece in pieces for token in _ids(piece, ids)]

    return encode


def _ids(piece: str, ids: dict[str, int]) -> list[int]:
    """A piece, or its bytes where it is none."""
    return [ids[piece]] if piece in ids else [ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
