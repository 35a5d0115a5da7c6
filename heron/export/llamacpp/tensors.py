"""Which weight goes under which name, and in which order of rows; and the way back, to compute with what a file holds.

The names are the package `gguf`'s own map. The one hard idea: queries and keys. transformers turns the first half of a head against the
second, llama.cpp (for the older architectures) neighbours, so there the rows of a head are dealt out like two hands of cards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heron.errors import ModelError
from heron.export.llamacpp.families import Family
from heron.export.llamacpp.library import gguf

GATE_UP, DOWN = ".experts.gate_up_proj", ".experts.down_proj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a file."""

    source: str
    """The parameter that it comes from."""
    name: str
    """In the file."""
    heads: int = 0
    """So many heads whose rows are dealt out; 0 leaves the rows as they are."""
    shift: float = 0.0
    """Added to what is written."""
    half: int | None = None
    """The first or second half of the parameter's rows, for each expert; None is all of it."""

    def written(self, weight: Tensor) -> Tensor:
        """What the file is to hold, in float32."""
        values = self._part(weight.detach()).float().cpu()
        if self.heads:
            values = _deal(values, self.heads)
        return values + self.shift if self.shift else values

    @torch.no_grad()
    def restore(self, weight: Tensor, read: Tensor) -> None:
        """Put into the parameter what a file holds."""
        values = read - self.shift if self.shift else read
        self._part(weight.detach()).copy_(_gather(values, self.heads) if self.heads else values)

    def _part(self, weight: Tensor) -> Tensor:
        return weight if self.half is None else weight.chunk(2, dim=1)[self.half]


def entries_of(model: Any, family: Family) -> tuple[Entry, ...]:
    """Every tensor of the file, in the order of the model; a weight without a place there is a ModelError."""
    config = model.config.get_text_config()
    package = gguf()
    arch = next(arch for arch, name in package.MODEL_ARCH_NAMES.items() if name == family.arch)
    names = package.get_tensor_name_map(arch, config.num_hidden_layers)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    found: list[Entry] = []
    for source in dict(model.named_parameters()):
        if not (tied and source == "lm_head.weight"):
            found += _entries(source, names, family, config)
    return tuple(found)


def _entries(source: str, names: Any, family: Family, config: Any) -> list[Entry]:
    if source.endswith(GATE_UP):  # transformers holds all experts of a layer in one tensor
        layer = source.removesuffix(GATE_UP)
        return [Entry(source=source, name=_name(f"{layer}.experts.{part}.weight", names, family), half=half)
                for half, part in enumerate(("gate_proj", "up_proj"))]
    if source.endswith(DOWN):
        return [Entry(source=source, name=_name(f"{source}.weight", names, family))]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(source.split(".")[-2], 0)
    return [Entry(
        source=source, name=_name(source, names, family), heads=heads if family.interleaved else 0,
        shift=family.norm_shift if source.endswith("norm.weight") else 0.0,
    )]


def _name(source: str, names: Any, family: Family) -> str:
    name = names.get_name(source, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise ModelError(f"The weight {source} has no place in a GGUF file of the architecture {family.arch}. Export with --format hf.")
    return str(name)


def _deal(rows: Tensor, heads: int) -> Tensor:
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _gather(rows: Tensor, heads: int) -> Tensor:
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
