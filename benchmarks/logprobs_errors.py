"""How far log-probs and their gradient are from the truth: full logits in float64.

The one hard idea: two kinds of tokens are asked about. Random targets are unlikely words; the likeliest word of a sharpened distribution
is what a trained model mostly samples, and there a log-prob may round to something above 0. What it leaves out: time and memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.logprobs_ways import Shape, Way, full_logits, way

SHARPENING = 16.0
"""Multiplies hidden for the sure tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Of one way, over one kind of tokens."""

    logprob: float
    """Largest absolute error."""
    gradient: float
    """Relative error of hidden's gradient, in the Euclidean norm."""
    largest: float
    """Largest log-prob: never above 0."""


def errors(name: str, shape: Shape) -> tuple[Errors, Errors]:
    """Against the truth for the same rounded inputs: of random targets, and of sure tokens."""
    hidden, head, targets, gradient = shape.inputs()
    with torch.no_grad():
        sharp = hidden * SHARPENING
        likeliest = torch.cat([(part @ head.T).argmax(-1) for part in sharp.split(64)])
    return _errors(name, hidden, head, targets, gradient), _errors(name, sharp, head, likeliest, gradient)


def _errors(name: str, hidden: Tensor, head: Tensor, targets: Tensor, gradient: Tensor) -> Errors:
    ours, slope = _values(way(name), hidden, head, targets, gradient)
    truth, true_slope = _values(full_logits, hidden.double(), head.double(), targets, gradient)
    return Errors(
        logprob=float((ours - truth).abs().max()), gradient=float((slope - true_slope).norm() / true_slope.norm()), largest=float(ours.max()),
    )


def _values(function: Way, hidden: Tensor, head: Tensor, targets: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    leaf = hidden.detach().requires_grad_()
    logprobs = function(leaf, head, targets)
    (slope,) = torch.autograd.grad(logprobs @ gradient.to(logprobs.dtype), leaf)
    return logprobs.detach().double(), slope.double()
