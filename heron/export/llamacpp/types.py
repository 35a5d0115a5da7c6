"""How the numbers of a file are stored, and how far one read back may lie from the one that was written.

`f32`, `f16`, `bf16` and `q8_0` are written here. The others are made by llama.cpp's own `llama-quantize` from a file in f32, because
their rounding is a search that belongs to it. Norms, biases and routers stay in f32, as llama.cpp wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WRITTEN = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""GGUF's types by the names of quantisations that are written here."""
BY_TOOL = ("q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k")
QUANTIZATIONS = (*WRITTEN, *BY_TOOL)

BLOCK = 32
"""Numbers of a row that share one scale in q8_0."""

RELATIVE = {"Q8_0": 0.01, "Q6_K": 0.04, "Q5_K": 0.07, "Q5_0": 0.07, "Q5_1": 0.07, "Q4_K": 0.14, "Q4_0": 0.16, "Q4_1": 0.14,
            "IQ4_NL": 0.16, "Q3_K": 0.3, "Q2_K": 0.5}
"""Largest root-mean-square error of a tensor, as a share of its own size, by the type that llama-quantize chose for it: about twice what
normally distributed weights have. A tensor in the wrong place is off by 1.4."""


def type_of(name: str, shape: tuple[int, ...], quantization: str) -> str:
    """GGUF's type for a tensor. Rows that 32 does not divide cannot have blocks and stay in f16, as llama.cpp's converter leaves them."""
    if len(shape) == 1 or "ffn_gate_inp" in name:
        return "F32"
    if quantization == "q8_0" and shape[-1] % BLOCK:
        return "F16"
    return WRITTEN[quantization]


def is_within(written: Array, read: Array, kind: str) -> bool:
    """What was read is what this type can hold of what was written; not a number is never."""
    if kind in _BOUNDS:
        return bool((np.abs(read - written) <= _BOUNDS[kind](written)).all())
    error, size = float(np.square(read - written).mean()) ** 0.5, float(np.square(written).mean()) ** 0.5
    return error <= RELATIVE.get(kind, 0.0) * size


def _float16(values: Array) -> Array:
    """Half a unit in the last of 11 bits; at the smallest, half the smallest number."""
    return np.abs(values) * np.float32(2.0**-11) + np.float32(2.0**-25)


def _bfloat16(values: Array) -> Array:
    return np.abs(values) * np.float32(2.0**-8)


def _q8_0(values: Array) -> Array:
    """Half a step of the block, and 127 steps times what the scale, a float16, is off by."""
    blocks = np.abs(values).reshape(-1, BLOCK)
    largest = blocks.max(axis=1, keepdims=True)
    bound = largest * np.float32((0.5 / 127 + 2.0**-11) * 1.001) + np.float32(127 * 2.0**-25)
    return np.broadcast_to(bound, blocks.shape).reshape(values.shape)


def _float32(values: Array) -> Array:
    return np.zeros_like(values)


_BOUNDS: Mapping[str, Callable[[Array], Array]] = {"F32": _float32, "F16": _float16, "BF16": _bfloat16, "Q8_0": _q8_0}
