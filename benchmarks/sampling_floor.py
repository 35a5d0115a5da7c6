"""The least time that a decode step can take on this machine: its products at their measured rate, its bytes at the measured bandwidth.

The one hard idea: both rates come from the same run as the step. Every linear layer is timed alone, at the step's own number of rows,
by the faster of the two routes for float32; weights and the keys and values of all rows are read once at the speed at which this core
reads memory. The floor is the larger of the two sums. It leaves out attention's arithmetic, norms, sampling, and all of Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.sampling_loads import Load
from heron.kernels.matmul import DEFAULT, ONEDNN, Route, using
from heron.models import Policy

LARGE_ARRAY = 256 << 20
"""Bytes to read for the bandwidth: more than any cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Of one decode step."""

    products: float
    """Seconds of all linear layers, each at its own measured rate."""
    flops: float
    """Of them."""
    reading: float
    """Seconds to read weights, keys and values once."""
    read: float
    """Bytes of them."""

    @property
    def seconds(self) -> float:
        """Products and reading can go on at the same time: the longer one."""
        return max(self.products, self.reading)

    def __str__(self) -> str:
        return (
            f"floor {1000 * self.seconds:.2f} ms: {self.flops / 1e9:.2f} GFLOP at {self.flops / self.products / 1e9:.0f} GFLOP/s, "
            f"{self.read / 1e6:.0f} MB at {self.read / self.reading / 1e9:.1f} GB/s"
        )


def floor(policy: Policy, load: Load, bandwidth: float) -> Floor:
    """Of a step in the middle of the answers, all rows alive."""
    rows, dtype = load.answers, policy.dtype
    layers = [module for module in policy.model.modules() if isinstance(module, nn.Linear)]
    shapes = [(layer.in_features, layer.out_features) for layer in layers]
    seconds = {shape: _product(rows, *shape, dtype) for shape in set(shapes)}
    weights = sum(inputs * outputs for inputs, outputs in shapes)
    config = policy.text_config
    cell = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize  # bytes of a token
    read = weights * dtype.itemsize + rows * (load.prompt_tokens + load.max_tokens / 2) * cell
    return Floor(
        products=sum(seconds[shape] for shape in shapes), flops=2.0 * rows * weights, reading=read / bandwidth, read=read
    )


def read_bandwidth() -> float:
    """Bytes a second that one thread reads from memory."""
    array = torch.ones(LARGE_ARRAY // 4)
    return LARGE_ARRAY / min(_least(array.sum), _least(lambda: torch.dot(array, array)))


def _product(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """Seconds of one linear layer, its weight warm in the cache: no product of this shape is faster."""
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    routes = (Route(), Route(name=ONEDNN)) if dtype is torch.float32 else (Route(name=DEFAULT),)
    return min(_routed(route, lambda: nn.functional.linear(x, weight)) for route in routes)


def _routed(route: Route, work: Callable[[], object]) -> float:
    with using(route), torch.inference_mode():
        return _least(work, rounds=40)


def _least(work: Callable[[], object], *, rounds: int = 12) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
