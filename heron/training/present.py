"""The device that a run would be on: what is free on it now, and how fast it is, measured in a fifth of a second.

The one hard idea: the two rates that decide a step's time are asked of the machine itself, with a copy and with a matrix product in the
dtype that the model has. A whole step is slower than its products alone, so REACHED of the product's rate is counted on.

Left out: devices that are not here (`memory.devices`). The part for CUDA has not been run on a GPU yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from heron.config.schema import Config
from heron.engine.native.cache import SHARE_OF_GPU, SHARE_OF_HOST, free_bytes
from heron.errors import ModelError
from heron.memory.case import case_of, spelled
from heron.memory.devices import Device
from heron.memory.fitting import cheapest_changes
from heron.memory.seconds import element_of
from heron.memory.table import GPU, HOST, in_gib
from heron.models.loading import find_device
from heron.training.cost import PROMPT_TOKENS, config_json

PROBE_SECONDS = 0.1
"""For each of the two rates."""
COPIED_BYTES, ROWS, WIDTH = 64 * 2**20, 512, 1024
"""Larger than caches; a matrix product of a size that layers have."""
REACHED = 0.6
"""Of the rate of a matrix product, by a whole step."""


def device_present(name: str, *, element: int) -> Device:
    """The device that `model.device` means here.

    Args:
        name: `auto`, `cpu`, `cuda:0`.
        element: bytes of an activation: 2 for 16 bits, 4 for float32.
    """
    device = find_device(name)
    bandwidth, rate = _bandwidth(device), _rate(device, torch.bfloat16 if element == 2 else torch.float32)
    measured = f"{bandwidth / 1e9:,.0f} GB/s in a copy, {rate / 1e9:,.0f} GFLOP/s in a matrix product"
    return _described(device, bandwidth, REACHED * rate, f"measured: {measured}, of which a step is taken to reach {REACHED:.0%}")


def shortage(config: Config) -> str | None:
    """What to say before anything is loaded, if the run will not fit: by how much, and the cheapest change. None if it fits, and where it
    cannot be planned, which loading will say more about."""
    try:
        model = config_json(config)
        is_enough = case_of(config, model, prompt_tokens=PROMPT_TOKENS, device=_unmeasured(config)).fits
    except ModelError:
        return None
    if is_enough:
        return None
    device = device_present(config.model.device, element=element_of(config, model))
    case = case_of(config, model, prompt_tokens=PROMPT_TOKENS, device=device)
    change = next(iter(cheapest_changes(case, 1)))
    words = "It would with" if change.fits else "Nearest comes"
    return f"{case.verdict} {words} {spelled(change.settings)} ({in_gib(change.plan.peak)}). `heron plan --fit` looks for more."


def _unmeasured(config: Config) -> Device:
    """Of which only the memory is asked."""
    return _described(find_device(config.model.device), 1.0, 1.0, "not measured")


def _described(device: torch.device, bandwidth: float, rate: float, rates: str) -> Device:
    is_gpu = device.type == "cuda"
    memory = round(free_bytes(device) / (SHARE_OF_GPU if is_gpu else SHARE_OF_HOST))
    return Device(
        name=torch.cuda.get_device_name(device) if is_gpu else "this machine's CPU", memory=memory, bandwidth=bandwidth, rate=rate,
        place=GPU if is_gpu else HOST, host_memory=round(free_bytes(torch.device("cpu")) / SHARE_OF_HOST) if is_gpu else None,
        origin=f"{in_gib(memory)} are free now; {rates}",
    )


def _bandwidth(device: torch.device) -> float:
    """Bytes read and written a second."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _seconds(lambda: target.copy_(source), device)


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a matrix product."""
    rows, square = torch.ones(ROWS, WIDTH, dtype=dtype, device=device), torch.ones(WIDTH, WIDTH, dtype=dtype, device=device)
    return 2 * ROWS * WIDTH * WIDTH / _seconds(lambda: rows @ square, device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the fastest try in PROBE_SECONDS; the first one, which sets things up, is not counted."""
    work()
    best, end = float("inf"), time.perf_counter() + PROBE_SECONDS
    while best == float("inf") or time.perf_counter() < end:
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        best = min(best, time.perf_counter() - began)
    return best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
