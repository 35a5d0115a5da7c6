"""Gradients of `logprobs` that need the probabilities a second time: a trained head's, its bias's, and those of the entropy.

The one hard idea: the order of the loops decides what must be held in float32. The head's gradient goes slice by slice through the
vocabulary and over all tokens within a slice, hidden's the other way round; so either needs a wide buffer for one slice alone, and
`[V, D]` is written once, in the head's own dtype. Where both are wanted, the tiles are made twice: only a loss that depends on the
entropy and trains the head pays that.

Left out: hidden's gradient through the log-prob alone, which the forward pass has already made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.kernels.logprobs_fold import Epilogue, RowGradient, Words
from heron.kernels.logprobs_tiles import Products, Tiles, slices


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesAgain:
    """The inputs of a call, and what the loss says about its outputs."""

    hidden: Tensor
    """`[N, D]`."""
    head: Tensor
    """`[V, D]`."""
    bias: Tensor | None
    """`[V]`."""
    rows: RowGradient
    """The loss's gradient for each token."""
    tiles: Tiles
    """The shape of a tile."""
    epilogue: Epilogue
    """What works on a tile."""

    def hidden_gradient(self) -> Tensor:
        """`[N, D]`."""
        products, grad_hidden = self._products(), torch.empty_like(self.hidden)
        total = self.hidden.new_empty((self.tiles.tokens, self.hidden.shape[1]), dtype=products.wide)
        for part in slices(len(self.hidden), self.tiles.tokens):
            into = total[: part.stop - part.start]
            for words in slices(len(self.head), self.tiles.words):
                grad = self._gradient(products, part, words)
                products.add(into, grad, self.head[words], first=words.start == 0)
            grad_hidden[part] = into
        return grad_hidden

    def head_gradients(self, *, wants_head: bool, wants_bias: bool) -> tuple[Tensor | None, Tensor | None]:
        """`[V, D]` and `[V]`, as far as they are wanted."""
        products = self._products()
        grad_head = torch.zeros_like(self.head) if wants_head else None
        grad_bias = torch.zeros_like(self.bias) if wants_bias and self.bias is not None else None
        total = self.head.new_empty((self.tiles.words, self.head.shape[1]), dtype=products.wide) if wants_head else None
        for words in slices(len(self.head), self.tiles.words):
            bias_total = torch.zeros(words.stop - words.start, dtype=products.wide, device=self.head.device)
            for part, grad in self._down(products, words):
                if total is not None:
                    products.add(total[: words.stop - words.start], grad.T, self.hidden[part], first=part.start == 0)
                if grad_bias is not None:
                    bias_total += grad.sum(0, dtype=products.wide)
            if grad_head is not None and total is not None and len(self.hidden):
                grad_head[words] = total[: words.stop - words.start]
            if grad_bias is not None:
                grad_bias[words] = bias_total
        return grad_head, grad_bias

    def _down(self, products: Products, words: slice) -> Iterator[tuple[slice, Tensor]]:
        """The tiles of some words, for all tokens."""
        return ((part, self._gradient(products, part, words)) for part in slices(len(self.hidden), self.tiles.tokens))

    def _gradient(self, products: Products, part: slice, words: slice) -> Tensor:
        """`[c, v]`, the loss's gradient with respect to `hidden @ head.T`."""
        tile = products.logits(self.hidden[part], self.head[words])
        out = products.operand(tile)
        self.epilogue.gradient(tile, Words.of(words, self.bias, products.wide), self.rows.rows(part), out)
        return out

    def _products(self) -> Products:
        return Products(self.tiles, dtype=self.head.dtype, device=self.head.device)
