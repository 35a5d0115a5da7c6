"""The matrix products of `logprobs`: how large a tile is, and the few buffers in which every tile of a call is made.

The one hard idea: a tile of logits `[c, v]` is a float32 buffer that is filled by a matrix product, worked on in place, and read by
the next matrix product. A low-precision head needs that second reading in its own dtype, so it has one narrow buffer beside the wide
one; float32 and float64 read the wide buffer itself. Sums over tiles are always kept wide. CUDA multiplies low precision into float32
directly; a CPU cannot, so there a product is rounded once to the head's dtype before it is added to a float32 sum.

Left out: what happens between two products (`logprobs_fold`, `triton_logprobs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

MAX_WORDS = 4096
"""Widest tile: wider ones leave the caches of a CPU, and a row of one still fits into the registers of a GPU's block."""
CPU_TILE_BYTES = 8 * 2**20
"""512 x 4096 logits: the fastest on CPUs with 1 to 2 MB of second-level cache, and within 5 % of 1024 x 2048."""
CUDA_TILE_BYTES = 32 * 2**20
"""2048 x 4096 logits: stays in the second-level cache of recent data-centre GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The shape of one tile of logits."""

    tokens: int
    """Rows, `c`."""
    words: int
    """Columns, `v`."""

    @classmethod
    def fitting(cls, tile_bytes: int, *, num_tokens: int, vocabulary: int, width: int) -> Tiles:
        """The largest tile of float32 logits within the budget, wide rather than tall.

        `width` is D. Sums of shape `[c, D]` and `[v, D]` stand beside the tile; neither takes more than twice the budget.
        """
        cells = max(1, tile_bytes // 4)
        side = max(1, 2 * cells // max(1, width))
        words = max(1, min(vocabulary, MAX_WORDS, side, isqrt(8 * cells)))
        return cls(tokens=max(1, min(num_tokens, side, cells // words)), words=words)


class Products:
    """Matrix products into buffers that are allocated once for a call."""

    def __init__(self, tiles: Tiles, *, dtype: torch.dtype, device: torch.device) -> None:
        self.wide = accumulator(dtype)
        self._direct = dtype is self.wide or device.type == "cuda"
        cells = tiles.tokens * tiles.words
        self._tile = torch.empty(cells, dtype=self.wide, device=device)
        self._narrow = self._tile if dtype is self.wide else torch.empty(cells, dtype=dtype, device=device)

    def logits(self, hidden: Tensor, head: Tensor) -> Tensor:
        """`hidden [c, D] @ head.T [D, v]` in the wide buffer, which holds it until the next call."""
        shape = (len(hidden), len(head))
        tile = _shaped(self._tile, shape)
        if self._direct:
            return multiply(hidden, head.T, out=tile)
        return tile.copy_(torch.mm(hidden, head.T, out=_shaped(self._narrow, shape)))

    def operand(self, tile: Tensor) -> Tensor:
        """Where to write what the next product is to read in place of `tile`: the tile itself, or the narrow buffer."""
        return _shaped(self._narrow, tile.shape)

    def add(self, total: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
        """`total += left @ right` in the wide dtype; the first time `total` is overwritten, so it need not be cleared."""
        add_product(total, left, right, first=first)


def add_product(total: Tensor, left: Tensor, right: Tensor, *, first: bool = False) -> None:
    """`total += left @ right` in `total`'s dtype, or `total = ` the first time. A CPU rounds a product to the factors' dtype before."""
    if left.dtype is total.dtype or total.is_cuda:
        multiply(left, right, out=total, keep=not first)
    elif first:
        total.copy_(left @ right)
    else:
        total.add_(left @ right)


def multiply(left: Tensor, right: Tensor, *, out: Tensor, keep: bool = False) -> Tensor:
    """`left @ right`, added to `out` or in place of it, summed and stored in `out`'s dtype (wider than the factors': CUDA only)."""
    if left.dtype is out.dtype:
        return torch.addmm(out, left, right, out=out) if keep else torch.mm(left, right, out=out)
    if keep:
        return torch.addmm(out, left, right, out_dtype=out.dtype, out=out)  # type: ignore[call-overload, no-any-return]
    return torch.mm(left, right, out_dtype=out.dtype, out=out)  # type: ignore[call-overload, no-any-return]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which logits and sums over tiles are held."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def slices(length: int, size: int, *, start: int = 0) -> Iterator[slice]:
    """`start .. start + length` in pieces of at most `size`."""
    end = start + length
    return (slice(here, min(here + size, end)) for here in range(start, end, size))


def _shaped(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    return buffer[: shape[0] * shape[1]].view(shape)
