"""Bytes of the model's own weights: what type a weight has, and what a quantised one takes.

The one hard idea: only the linear layers of the decoder are quantised. Embedding, head, norms, biases and experts (which lie in one tensor)
keep the type of the checkpoint, so a 4-bit model with a large vocabulary is far from an eighth of its size in float32. With b bits a
weight, blocks of 64 and double quantisation in blocks of 256:

    nf4            4 bits + 32 / 64                     = 4.5 bits a weight
    nf4, double    4 bits + 8 / 64 + 32 / (64 x 256)    = 4.127 bits a weight
    int8           8 bits + 32 bits for each row

Left out: other formats, for which the caller gives the mean bytes of a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.config.model import ModelConfig
from heron.errors import ModelError
from heron.memory.shapes import Shape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4, NF4_DOUBLE = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit weight, its share of the scales included."""
_PLACES = {"down_proj": "mlp", "gate_proj": "mlp", "up_proj": "mlp", "gate_up_proj": "mlp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """How the weights are stored."""

    element: int
    """Bytes of an activation, and of a weight that is not quantised."""
    read: int
    """Bytes of a weight in the checkpoint."""
    kind: str = ""
    """`nf4`, `nf4 double` or `int8`; empty for plain weights."""
    exceptions: tuple[str, ...] = ()
    """Ends of the names of linear layers that are not quantised."""
    keep: float = 0.0
    """Share of the other linear weights that is not quantised either."""
    mean: float | None = None
    """Bytes of a weight, where the caller has said so."""

    def bytes_of(self, shape: Shape) -> float:
        """All weights."""
        if self.mean is not None:
            return shape.parameters * self.mean
        if not self.kind:
            return float(shape.parameters * self.element)
        linear, rows = self._quantised(shape)
        scales = {"nf4": NF4, "nf4 double": NF4_DOUBLE, "int8": 1.0}[self.kind]
        quantised = (1 - self.keep) * (linear * scales + (4 * rows if self.kind == "int8" else 0))
        return quantised + (shape.parameters - (1 - self.keep) * linear) * self.element

    def quantised_weights(self, shape: Shape) -> float:
        """Those that are."""
        return (1 - self.keep) * self._quantised(shape)[0] if self.kind else 0.0

    def largest_layer(self, shape: Shape) -> int:
        """Weights of the largest layer that is unpacked before it is used; 0 if none is."""
        return max((inputs * outputs for inputs, outputs in shape.linears.values()), default=0) if self.kind else 0

    def note(self, shape: Shape) -> str:
        """How they were counted."""
        if self.mean is not None or not self.kind:
            return f"{shape.parameters:,} x {self.mean or self.element:g} bytes"
        return f"{round(self.quantised_weights(shape)):,} as {self.kind}, the rest of {shape.parameters:,} x {self.element} bytes"

    def _quantised(self, shape: Shape) -> tuple[int, int]:
        """Weights and rows of the linear layers that may be quantised."""
        chosen = [
            size for layer in range(shape.layers) for name, size in shape.linears.items()
            if not any(_ends(f"layers.{layer}.{_PLACES.get(name, 'self_attn')}.{name}", end) for end in self.exceptions)
        ]
        return sum(inputs * outputs for inputs, outputs in chosen), sum(outputs for _, outputs in chosen)


def read_base(model: ModelConfig, given: Mapping[str, Any], mean: float | None) -> Base:
    """The storage that the settings and the checkpoint's config.json ask for. A checkpoint that names no dtype is taken for float32."""
    named = str(given.get("dtype") or given.get("torch_dtype") or "float32").removeprefix("torch.")
    dtype = named if model.dtype == "auto" else model.dtype
    if dtype not in DTYPE_BYTES:
        raise ModelError(f"The checkpoint's dtype is {dtype!r}; memory can be planned for {', '.join(DTYPE_BYTES)}. Set model.dtype.")
    element = DTYPE_BYTES[dtype]
    read = DTYPE_BYTES.get(named, element)
    own = given.get("quantization_config")
    if mean is not None:
        return Base(element=element, read=read, mean=mean)
    if own:
        return Base(element=element, read=read, kind=_own_kind(own), exceptions=tuple(own.get("llm_int8_skip_modules") or ()))
    if model.method != "qlora":
        return Base(element=element, read=read)
    kind = "int8" if model.quantization == "int8" else "nf4 double" if model.double_quantization else "nf4"
    return Base(element=element, read=read, kind=kind, exceptions=model.quantization_exceptions, keep=model.quantization_keep)


def _own_kind(own: Mapping[str, Any]) -> str:
    """Of a checkpoint that is quantised already."""
    if own.get("load_in_4bit"):
        return "nf4 double" if own.get("bnb_4bit_use_double_quant") else "nf4"
    if own.get("load_in_8bit"):
        return "int8"
    raise ModelError(
        "The checkpoint is quantised, and its config.json does not say how many bytes a weight takes. Give bytes_per_weight."
    )


def _ends(layer: str, end: str) -> bool:
    return f".{layer}".endswith(f".{end}")
