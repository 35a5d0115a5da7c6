"""MLPs and norms over some tokens at a time, forward and backward, for very long sequences.

The one hard idea: an MLP treats every token by itself, and so does a norm, so nothing between their input and their output has to outlive a
tile. The forward pass keeps the input alone; the backward pass computes each tile again, and adds the tiles' gradients of the weights up in
float32, which are rounded once. The input is saved before the tiles are computed: under gradient checkpointing, where a layer is computed
again until its last saved tensor is there, a layer that ends with its MLP does not compute those tiles a third time.

Exact up to the order of summation. The module stays what it is: its `forward` is bound anew on the instance, so names of weights, adapters
that wrap its linear layers, and copies are as before. It is tiled in training mode alone; sampling and recordings see the plain module.

What it leaves out: mixtures of experts, whose tokens meet in the experts, and modules that take more than the hidden states.

Measured on a CPU in float32, one gated MLP, 16 384 tokens, 256 to 2048 wide (128 MiB an inner activation), forward and backward: the
process grows by 811 MiB all at once, by 374 MiB with tiles of 2048 tokens, by 113 MiB with tiles of 512. It multiplies 4 times for every 3.
A norm of 16 bits keeps its input, which others keep too, in place of a float32 copy of twice the size. Not yet run on a GPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from heron.errors import ModelError

ROUTING = ("experts", "router", "gate")
"""What the parts of a mixture of experts are called."""


def tile(model: nn.Module, tokens: int) -> int:
    """Tile every MLP and norm of the model that treats tokens by themselves; returns how many MLPs. ModelError if there is none."""
    named = [(name.rsplit(".", 1)[-1], module) for name, module in model.named_modules()]
    mlps = [module for name, module in named if name == "mlp" and is_token_wise(module)]
    if not mlps:
        raise ModelError("model.tiled_mlp is set, but no layer of this model has an `mlp` of linear layers that takes hidden states alone. "
                         "Leave it out; a smaller train.micro_batch_tokens saves memory in every model.")
    for module in [*mlps, *(module for name, module in named if "norm" in name and is_norm(module))]:
        module.forward = Tiled(module, tokens)  # type: ignore[method-assign]
    return len(mlps)


def is_token_wise(module: nn.Module) -> bool:
    """It takes hidden states alone, and all its weights are those of linear layers, none chosen by a router."""
    owners = [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]
    has_experts = any(isinstance(part, nn.ModuleList) or name.rsplit(".", 1)[-1] in ROUTING for name, part in module.named_modules())
    return _takes_one(module) and bool(owners) and all(isinstance(owner, nn.Linear) for owner in owners) and not has_experts


def is_norm(module: nn.Module) -> bool:
    """It takes hidden states alone, and has a vector of weights (and one of biases), as wide as what it normalises."""
    return _takes_one(module) and not list(module.children()) and {weight.dim() for weight in module.parameters()} == {1}


def _takes_one(module: nn.Module) -> bool:
    needed = [each for each in inspect.signature(module.forward).parameters.values() if each.default is inspect.Parameter.empty]
    return len(needed) == 1


class Tiled:
    """What a module's `forward` is replaced by."""

    def __init__(self, module: nn.Module, tokens: int) -> None:
        self.module = module
        self.tokens = tokens

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[B, T, ..., D]` to the same."""
        outer = min(2, hidden.dim() - 1)
        if not self.module.training or hidden.shape[:outer].numel() <= self.tokens:
            return self.plain(hidden)
        flat = hidden.flatten(0, outer - 1)  # [T, ..., D]
        if not torch.is_grad_enabled():
            return self.in_tiles(flat).view_as(hidden)
        kept = _Kept.apply(torch.empty(0, requires_grad=True), flat)
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        return _InTiles.apply(self, kept.grad_fn, flat, *weights).view_as(hidden)

    def plain(self, hidden: Tensor) -> Tensor:
        """As the module's class computes it, all at once."""
        return type(self.module).forward(self.module, hidden)  # type: ignore[no-any-return]

    def in_tiles(self, flat: Tensor) -> Tensor:
        """`[T, ..., D]` without a graph."""
        first, *rest = flat.split(self.tokens)
        done = self.plain(first)
        output = done.new_empty(len(flat), *done.shape[1:])
        output[: self.tokens] = done
        for number, tile in enumerate(rest, start=1):
            output[number * self.tokens : (number + 1) * self.tokens] = self.plain(tile)
        return output


class _Kept(torch.autograd.Function):
    """Saves the input, before anything is computed from it. Nothing flows back through it."""

    @staticmethod
    def forward(context: Any, anchor: Tensor, flat: Tensor) -> Tensor:
        context.save_for_backward(flat)
        return anchor.new_empty(0)

    @staticmethod
    def backward(context: Any, *_: Any) -> Any:
        raise AssertionError("nothing depends on the mark of a saved input")


class _InTiles(torch.autograd.Function):
    """The module over `flat [T, ..., D]`; the weights are arguments, so that their gradients are the graph's and not a side effect."""

    @staticmethod
    def forward(context: Any, tiled: Tiled, kept: Any, flat: Tensor, *weights: Tensor) -> Tensor:
        context.tiled, context.kept, context.weights = tiled, kept, weights
        return tiled.in_tiles(flat)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        (flat,) = context.kept.saved_tensors
        context.kept = None  # nothing else lets go of it before the whole graph goes
        tiled, weights = context.tiled, context.weights
        wants_input = context.needs_input_grad[2]
        by_input = torch.empty_like(flat) if wants_input else None
        sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
        for where, tile in _tiles(flat, tiled.tokens):
            with torch.enable_grad():
                tile = tile.detach().requires_grad_(wants_input)
                output = tiled.plain(tile)
            wanted = [tile, *weights] if wants_input else weights
            parts: Sequence[Tensor] = torch.autograd.grad(output, wanted, gradients[0][where], materialize_grads=True)
            if by_input is not None:
                by_input[where], *parts = parts
            for total, part in zip(sums, parts, strict=True):
                total += part
        return None, None, by_input, *(total.to(weight.dtype) for total, weight in zip(sums, weights, strict=True))


def _tiles(flat: Tensor, tokens: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(flat), tokens):
        where = slice(start, start + tokens)
        yield where, flat[where]
