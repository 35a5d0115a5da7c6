"""Which linear layers 4 bits hurt most: measured, on the inputs that they really have.

The one hard idea: a layer is judged by what comes out of it, for what goes into it. While the model of 16 bits reads a few samples, each
layer's weight is taken to 4 bits and back, and its output compared with what it was; one layer's weight at a time, so nothing but the
largest layer is ever held twice. Those with the largest relative error for each weight that they would cost are kept, until the share is
used: a small layer that is badly hurt goes before a large one that is hurt a little.

What it leaves out: errors that add up from layer to layer (each is measured behind unquantised ones), and what matters for the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES = (
    "A train leaves at 9:40 and arrives at 13:05. How long does it travel? Explain each step before you give the answer.",
    "Write a Python function that returns the n-th Fibonacci number, and say why it is fast for large n.",
    "Die Summe zweier Zahlen ist 27, ihre Differenz ist 5. Welche Zahlen sind es?",
    "Why is the sky blue at noon and red in the evening? Answer in three sentences.",
)
"""Sums, code, another language, prose. Fixed, so that the same checkpoint gives the same choice."""


def most_sensitive(
    model: Any, samples: Sequence[Tensor], layers: Sequence[str], *, share: float, double: bool
) -> tuple[str, ...]:
    """Names of the `layers` to keep in 16 bits, worst first; they hold at most `share` of the layers' weights.

    Args:
        model: the model of 16 bits.
        samples: token ids `[1, L]` each.
        layers: names of linear layers that may be quantised.
        share: of their weights.
        double: the scales would be quantised too.
    """
    sizes = {name: model.get_submodule(name).weight.numel() for name in layers}
    return within(output_errors(model, samples, layers, double=double), sizes, share)


def within(errors: Mapping[str, float], sizes: Mapping[str, int], share: float) -> tuple[str, ...]:
    """The layers with the largest error for each of their weights, as long as they fit into `share` of all weights."""
    room = share * sum(sizes.values())
    kept = []
    for name in sorted(errors, key=lambda name: (-errors[name] / sizes[name], name)):
        if sizes[name] <= room:
            kept.append(name)
            room -= sizes[name]
    return tuple(kept)


def output_errors(model: Any, samples: Sequence[Tensor], layers: Sequence[str], *, double: bool) -> dict[str, float]:
    """Relative error `||x (W' - W)|| / ||x W||` of each layer's output over all samples, with `W'` in nf4."""
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in layers}  # squares of the errors, and of the outputs
    hooks = [
        model.get_submodule(name).register_forward_hook(functools.partial(_measure, sums[name], double=double)) for name in layers
    ]
    try:
        with torch.inference_mode():
            for token_ids in samples:
                model.get_decoder()(input_ids=token_ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: float((wrong / (whole + 1e-30)).sqrt()) for name, (wrong, whole) in sums.items()}


def _measure(sums: Tensor, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor, *, double: bool) -> None:
    """Add the squares of one call."""
    x = inputs[0]
    error = nn.functional.linear(x.float(), (_quantised(layer.weight, double=double) - layer.weight).float())
    plain = output.float() if layer.bias is None else output.float() - layer.bias.float()
    sums += torch.stack([error.square().sum(), plain.square().sum()]).double().cpu()


def _quantised(weight: Tensor, *, double: bool) -> Tensor:
    """To nf4 and back."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    codes, state = quantize_4bit(weight.data, quant_type="nf4", compress_statistics=double)
    return dequantize_4bit(codes, state)
