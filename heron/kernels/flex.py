"""Attention along the branches of a packed tree with FlexAttention: the plan for GPUs. Not yet run on a GPU.

The one hard idea: number the tokens in depth-first order, and token j stands above token i in the tree iff `j <= i < stop[j]`. That
is two comparisons in the mask of a fused kernel, whatever the order in which tokens are packed. The mask of blocks that this makes
is kept for all layers of a plan that share a window; the kernel is compiled when it is first called. FlexAttention has no backward
pass on the CPU, so the CPU runs it in tests alone, uncompiled. What it leaves out: a prompt is read once for each block of queries
below it, not once for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from heron.kernels.packed_tiles import beside_sinks
from heron.kernels.packed_tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexPlan:
    """Causal attention along rows of packed tokens that may share beginnings."""

    place: Tensor
    """`[T]` number in depth-first order of each packed token."""
    stop: Tensor
    """`[T]` number behind the last token that continues it."""
    depth: Tensor
    """`[T]` position of each packed token in its row."""
    masks: dict[int | None, BlockMask] = field(default_factory=dict)
    """By window, made when a layer first asks."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """`query [1, H, T, d]`, `key` and `value [1, K, T, d]` of one layer to `output [1, H, T, d]`."""
        if window not in self.masks:
            length = len(self.place)
            self.masks[window] = create_block_mask(self.visible(window), None, None, length, length, device=query.device)
        kernel = _compiled() if query.is_cuda else flex_attention
        found = kernel(
            query, key, value, score_mod=None if softcap is None else _capped(softcap), block_mask=self.masks[window], scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1], return_aux=None if sinks is None else AuxRequest(lse=True),
        )
        return found if sinks is None else found[0] * beside_sinks(found[1].lse, sinks[:, None]).to(query.dtype)

    def visible(self, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """FlexAttention's `mask_mod`: does packed token i see packed token j?"""
        place, stop, depth = self.place, self.stop, self.depth

        def below(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (place[j] <= place[i]) & (place[i] < stop[j])

        if window is None:
            return below

        def near(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return below(batch, head, i, j) & (depth[i] - depth[j] < window)

        return near


def flex_plan(tree: Tree, *, device: torch.device) -> FlexPlan:
    """The tree as numbers of its packed tokens."""
    order = torch.tensor(tree.order, dtype=torch.int64, device=device)  # [T] packed index by place
    place = order.argsort()
    stop, depth = (torch.tensor(x, dtype=torch.int64, device=device).index_select(0, place) for x in (tree.stop, tree.depth))
    return FlexPlan(place=place, stop=stop, depth=depth)


def _capped(softcap: float) -> Callable[..., Tensor]:
    def cap(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


@functools.cache
def _compiled() -> Any:
    """One kernel for micro-batches of all lengths."""
    return torch.compile(flex_attention, dynamic=True)
