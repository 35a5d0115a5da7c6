"""Keys and values of all pages, layer by layer: the tensors behind `pages`.

On a CPU the memory of a page is really taken when it is first written (a page of zeros costs nothing until then). Scores are computed
in float32 whatever the model's type is, as in training, so there keys are kept in float32: products with them need no conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from heron.kernels.packed_tiles import wide

if TYPE_CHECKING:
    from heron.engine.native.graphs import CapturedDecode


class Store:
    """`keys[layer] [P, K, s, d]` and `values[layer] [P, K, s, e]`; with a scratch page there is one page more, which nobody reads."""

    def __init__(self, pages: int, page_size: int, *, has_scratch: bool = False) -> None:
        self.pages = pages
        self.page_size = page_size
        self.scratch = pages if has_scratch else None
        self.captured: CapturedDecode | None = None  # over these tensors (see `graphs`): it goes when they go
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def write(self, layer: int, key: Tensor, value: Tensor, pages: Tensor, offsets: Tensor) -> None:
        """Put `key [N, K, d]` and `value [N, K, e]` at these places `[N]`."""
        if layer not in self.keys:
            self.keys[layer] = self._zeros(key, wide(key.dtype) if key.device.type == "cpu" else key.dtype)
            self.values[layer] = self._zeros(value, value.dtype)
        keys = self.keys[layer]
        keys[pages, :, offsets] = key.to(keys.dtype)
        self.values[layer][pages, :, offsets] = value

    def read(self, layer: int, pages: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` keys `[length, K, d]` and values `[length, K, e]` of these pages `[m]`, in order."""
        return (
            self.keys[layer][pages].transpose(1, 2).flatten(0, 1)[:length],
            self.values[layer][pages].transpose(1, 2).flatten(0, 1)[:length],
        )

    def copy(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copy pages `(from, to)`; all are read before any is written."""
        if not moves:
            return
        for tensors in (self.keys, self.values):
            for tensor in tensors.values():
                sources, targets = torch.tensor(moves, device=tensor.device).unbind(1)
                tensor[targets] = tensor[sources]

    @property
    def bytes_per_page(self) -> int:
        """In all layers; 0 before anything was written."""
        return sum(t[0].numel() * t.element_size() for t in (*self.keys.values(), *self.values.values()))

    def _zeros(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """`[P, K, s, width]` of zeros; on a CPU from calloc, which takes no memory yet."""
        shape = (self.pages + (self.scratch is not None), like.shape[1], self.page_size, like.shape[2])
        if like.device.type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=like.device)
        count = shape[0] * shape[1] * shape[2] * shape[3] * dtype.itemsize
        return torch.from_numpy(numpy.zeros(count, dtype=numpy.uint8)).view(dtype).view(shape)
