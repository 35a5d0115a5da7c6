"""The machine that a plan is held against: how much memory it has, how fast it reads it, how fast it multiplies.

The one hard idea: a card is not as large as its name. `16GB` is taken for 16 GiB, since that is what makers put on the cards that they sell
by the GB; of it RESERVED is not a run's to use. For the cards of the table the memory is what their driver reports.

Bandwidth and dense bf16 rate (without sparsity) are those of NVIDIA's data sheets and white papers: T4 (2019; fp16, it has no bf16), L4
(2023), A10G (70 TFLOP/s; the page of AWS G5), RTX 3090 (GA102 white paper) and RTX 4090 (Ada white paper), both with float32 sums, RTX
A6000 (2021), L40S (2023), A100 PCIe 40 GB and SXM 80 GB (2021), H100 SXM (2023), H200 SXM (2024). A run reaches a part of both.

Left out: several GPUs, and looking for one (that takes torch: `training.present`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from heron.errors import ConfigError, did_you_mean
from heron.memory.table import GPU, in_gib

RESERVED = 700 * 2**20
"""Of a GPU's memory: about half a GiB for CUDA's context, the rest for what its allocator rounds up and cannot join."""
LINK = 25e9
"""Bytes a second between host and GPU: what pinned copies reach over PCIe 4.0 with 16 lanes, whose limit is 32e9."""
REACHED_BANDWIDTH, REACHED_RATE = 0.6, 0.4
"""Parts of the data sheet's figures that a run is taken to reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a run would be on."""

    name: str
    """For people."""
    memory: int
    """Bytes that a run can use."""
    bandwidth: float
    """Bytes a second that a run reaches."""
    rate: float
    """Operations a second that a run reaches in matrix products."""
    origin: str
    """Where these figures come from, in a sentence."""
    place: str = GPU
    """`gpu`, or `host` for a CPU and its memory."""
    host_memory: int | None = None
    """Bytes of the host that a run on a GPU can use; None where the host is not known."""

    @property
    def torch_device(self) -> str:
        """What `model.device` has to be for a plan of this device."""
        return "cuda" if self.place == GPU else "cpu"


def find_device(given: str) -> Device:
    """The card of this name, or some card of this size: `T4`, `rtx-4090`, `16GB`, `24GiB`."""
    name = given.strip().upper().replace("_", "-").replace(" ", "-").removeprefix("NVIDIA-")
    if name in CARDS:
        return _card(name)
    size = re.fullmatch(r"(\d+(?:\.\d+)?)-?(GB|GIB|MB|MIB)", name)
    if size is None or float(size[1]) == 0:
        raise ConfigError(f"--gpu takes a size such as 16GB, or one of {', '.join(CARDS)}, but it is {given!r}."
                          f"{did_you_mean(name, CARDS)}")
    return _sized(given.strip(), int(float(size[1]) * (2**20 if size[2].startswith("M") else 2**30)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A line of a data sheet."""

    mebibytes: int
    """Memory, as the driver reports it."""
    gigabytes_a_second: int
    """Bandwidth."""
    teraflops: int
    """Dense bf16 operations a second, in 1e12."""


CARDS: Mapping[str, Card] = {
    "T4": Card(mebibytes=15360, gigabytes_a_second=320, teraflops=65),
    "L4": Card(mebibytes=23034, gigabytes_a_second=300, teraflops=121),
    "A10G": Card(mebibytes=23028, gigabytes_a_second=600, teraflops=70),
    "RTX-3090": Card(mebibytes=24576, gigabytes_a_second=936, teraflops=71),
    "RTX-4090": Card(mebibytes=24564, gigabytes_a_second=1008, teraflops=165),
    "A6000": Card(mebibytes=49140, gigabytes_a_second=768, teraflops=155),
    "L40S": Card(mebibytes=46068, gigabytes_a_second=864, teraflops=362),
    "A100-40": Card(mebibytes=40960, gigabytes_a_second=1555, teraflops=312),
    "A100-80": Card(mebibytes=81920, gigabytes_a_second=2039, teraflops=312),
    "H100": Card(mebibytes=81559, gigabytes_a_second=3350, teraflops=989),
    "H200": Card(mebibytes=143771, gigabytes_a_second=4800, teraflops=989),
}
"""By name."""

_OF_NO_NAME = "L4"  # whose rates a card gets of which only the size is known


def _card(name: str) -> Device:
    card = CARDS[name]
    return Device(
        name=name, memory=card.mebibytes * 2**20 - RESERVED, bandwidth=card.gigabytes_a_second * 1e9 * REACHED_BANDWIDTH,
        rate=card.teraflops * 1e12 * REACHED_RATE,
        origin=f"{card.mebibytes:,} MiB by its driver, less {_reserve()}; {REACHED_BANDWIDTH:.0%} of {card.gigabytes_a_second:,} GB/s and "
               f"{REACHED_RATE:.0%} of {card.teraflops} TFLOP/s, the data sheet's",
    )


def _sized(given: str, memory: int) -> Device:
    if memory <= RESERVED:
        raise ConfigError(f"--gpu={given} leaves nothing: {_reserve()} are needed beside a run. Give a larger one.")
    likeness = _card(_OF_NO_NAME)
    return Device(
        name=f"a GPU of {given}", memory=memory - RESERVED, bandwidth=likeness.bandwidth, rate=likeness.rate,
        origin=f"taken for {in_gib(memory)}, less {_reserve()}; a size says nothing of speed, so times are those of the {_OF_NO_NAME}",
    )


def _reserve() -> str:
    return f"{in_gib(RESERVED)} for CUDA and its allocator"
