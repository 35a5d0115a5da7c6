"""Bytes of the optimizer's state, and of what a step takes besides.

The one hard idea: a state is counted tensor by tensor, because the rules differ by a tensor's size and form. With n weights in it:

    adamw          8 n          two moments in float32
    adamw_8bit     2 n + 8 n / 256 for their scales, of tensors of at least 4096 weights; 8 n of smaller ones
    adafactor      4 (rows + columns) of a matrix, 4 n of a vector
    muon           4 n of a matrix within the network, 8 n of an embedding, a head and vectors
    adamw_kahan    2 n moments and the rest of every update, in the weights' type: 6 n in bfloat16; float32 keeps no rests: 8 n

Left out: buffers that a library makes once, such as the table of 8-bit codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

SMALLEST_OF_8_BITS, BLOCK = 4096, 256
"""Weights of a tensor that has moments of 8 bits, and of a block with one scale."""
_OF_8_BITS = ("adamw_8bit", "paged_adamw_8bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """Trained tensors of one form."""

    shape: tuple[int, ...]
    """Of each."""
    count: int = 1
    """How many there are."""
    is_table: bool = False
    """An embedding or a head."""

    @property
    def size(self) -> int:
        """Weights of one."""
        return prod(self.shape)


def state_bytes(optimizer: str, tensors: Iterable[Tensors], element: int) -> float:
    """The optimizer's state; `element` are the bytes of a trained weight."""
    return sum(tensor.count * _of_one(optimizer, tensor, element) for tensor in tensors)


def step_bytes(optimizer: str, tensors: Sequence[Tensors], *, on_gpu: bool) -> float:
    """What the largest tensor's step takes besides. AdamW works in place, and so do 8-bit moments on a GPU; on a CPU bitsandbytes makes
    both moments, the gradient, a root and a quotient of it in float32. The others make an update and one copy, in float32."""
    if optimizer == "adamw" or (optimizer in _OF_8_BITS and on_gpu):
        return 0.0
    largest = max((tensor.size for tensor in tensors if optimizer != "muon" or not _is_plain(tensor)), default=0)
    return (20.0 if optimizer in _OF_8_BITS else 8.0) * largest


def formula(optimizer: str) -> str:
    """In letters: n weights of a tensor."""
    return {
        "adamw": "8 n", "adamw_8bit": "2 n + 8 n / 256", "paged_adamw_8bit": "2 n + 8 n / 256", "adafactor": "4 (rows + columns)",
        "muon": "4 n of inner matrices, 8 n of the rest", "adamw_kahan": "3 n e in 16 bits, 2 n e in 32",
    }[optimizer]


def _of_one(optimizer: str, tensor: Tensors, element: int) -> float:
    size = tensor.size
    if optimizer in _OF_8_BITS:
        return 2 * size + 8 * -(-size // BLOCK) if size >= SMALLEST_OF_8_BITS else 8 * size
    if optimizer == "adafactor":
        return 4 * sum(tensor.shape) if len(tensor.shape) > 1 else 4 * size
    if optimizer == "muon" and not _is_plain(tensor):
        return 4 * size
    if optimizer == "adamw_kahan":
        return (3 if element < 4 else 2) * element * size
    return 8 * size


def _is_plain(tensor: Tensors) -> bool:
    """Muon leaves it to AdamW."""
    return tensor.is_table or len(tensor.shape) != 2
