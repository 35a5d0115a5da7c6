"""Which of a CPU's two routes multiplies float32 matrices: asked of the machine, not of its name.

The one hard idea: the switch is named after what it means elsewhere. `fp32_precision = "bf16"` lets oneDNN compute float32 products in
bfloat16; on CPUs without such units oneDNN computes them in exact float32, up to twice as fast as the default library. So both routes
multiply the same matrices, are held against float64, and the other one is taken only if it is exact everywhere and much faster. A
route that is barely faster is not taken: the verdict must not change with the noise of a measurement, since a run is to be repeatable
bit for bit. What it leaves out: GPUs, and dtypes other than float32.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEFAULT, ONEDNN = "default", "onednn"
SETTINGS = {DEFAULT: "none", ONEDNN: "bf16"}
"""What each route writes into `torch.backends.mkldnn.matmul.fp32_precision`."""
LARGEST_ERROR = 1e-6
"""Relative to float64."""
LEAST_SPEEDUP = 1.4
"""Over all products."""
MOST_SLOWDOWN = 1.1
"""Of any one product."""
LARGEST_SIDE = 1024
"""Matrices of the check are cut to it: a route is as exact and as fast on a part."""
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How float32 matrices are multiplied, and why."""

    name: str = DEFAULT
    """`default` or `onednn`."""
    speedup: float = 1.0
    """Of oneDNN over the default, as measured; 1 if it was not."""
    error: float = 0.0
    """Largest relative error of oneDNN against float64; 0 if it was not measured."""

    @property
    def verdict(self) -> str:
        """One line for a person."""
        measured = f"oneDNN: {self.speedup:.2f}x the speed, error {self.error:.0e}" if self.error else "not measured"
        return f"float32 products by the {self.name} route ({measured})"


def choose_route(shapes: Sequence[tuple[int, int, int]]) -> Route:
    """The route for products of these `(rows, inputs, outputs)`: of a linear layer's forward pass and both of its gradients.

    Takes a few tenths of a second. Where torch has no such switch, or was built without oneDNN, the default stays.
    """
    if not is_available() or not shapes:
        return Route()
    trials = [_trial(shape) for shape in dict.fromkeys(tuple(min(side, LARGEST_SIDE) for side in shape) for shape in shapes)]
    before, after = (sum(trial[place] for trial in trials) for place in (0, 1))
    slowdown, error = max(trial[1] / trial[0] for trial in trials), max(trial[2] for trial in trials)
    is_better = error < LARGEST_ERROR and before / after >= LEAST_SPEEDUP and slowdown <= MOST_SLOWDOWN
    return Route(name=ONEDNN if is_better else DEFAULT, speedup=before / after, error=error)


def is_available() -> bool:
    """Whether this torch has the switch."""
    return torch.backends.mkldnn.is_available() and hasattr(_switch(), "fp32_precision")


@contextlib.contextmanager
def using(route: Route) -> Iterator[None]:
    """Multiply by this route inside; as before afterwards. The default, and a route that this torch does not have, change nothing."""
    if route.name == DEFAULT or not is_available():
        yield
        return
    switch = _switch()
    before = switch.fp32_precision
    switch.fp32_precision = SETTINGS[route.name]
    try:
        yield
    finally:
        switch.fp32_precision = before


def _switch() -> Any:
    """Where torch keeps the setting, or None."""
    return getattr(torch.backends.mkldnn, "matmul", None)


def _trial(shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Least seconds of the default and of oneDNN, taking turns, and oneDNN's largest error."""
    rows, inputs, outputs = shape
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    gradient = torch.randn(rows, outputs, generator=generator)
    pairs = [(x, weight.T), (gradient, weight), (gradient.T, x)]
    routes = (Route(), Route(name=ONEDNN))
    error = max(_error(routes[1], *pair) for pair in pairs)
    seconds = [min(times) for times in zip(*[[_seconds(route, pairs) for route in routes] for _ in range(ROUNDS)], strict=True)]
    return seconds[0], seconds[1], error


def _error(route: Route, left: Tensor, right: Tensor) -> float:
    exact = left.double() @ right.double()
    with using(route):
        found = left @ right
    return float((found.double() - exact).norm() / exact.norm())


def _seconds(route: Route, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    with using(route):
        began = time.perf_counter()
        for left, right in pairs:
            left @ right
        return time.perf_counter() - began
