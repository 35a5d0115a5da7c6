"""The states of all global random generators, as they were at one moment.

Heron itself draws from none of them: its draws are functions of (seed, step). But a user's reward or environment may, and a run that is
resumed must go on with what it would have drawn. So they begin at the run's seed, and every checkpoint holds them.

Left out: generators that a user's code keeps to itself, and those of other processes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

DRAWS = "draws.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """States of the generators of Python, numpy, torch, and torch on every GPU that is in use."""

    python: tuple[Any, ...]
    """What `random.getstate` gives."""
    numpy: tuple[Any, ...]
    """What `numpy.random.get_state` gives."""
    torch: Tensor
    """What `torch.get_rng_state` gives."""
    cuda: tuple[Tensor, ...]
    """The same of each GPU; empty where none is in use."""

    @classmethod
    def taken(cls) -> Draws:
        """As they are now; some 30 microseconds."""
        return cls(
            python=random.getstate(), numpy=numpy.random.get_state(), torch=torch.get_rng_state(),  # type: ignore[arg-type]
            cuda=tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else (),
        )

    def put(self) -> None:
        """Let the generators go on from here. GPUs that are no longer there are passed over."""
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        for device, state in enumerate(self.cuda[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)

    def save(self, folder: Path) -> None:
        """Write them into a checkpoint, as plain values and tensors."""
        name, keys, *rest = self.numpy
        version, numbers, gauss = self.python
        plain = {
            "python": [version, list(numbers), gauss], "numpy": [str(name), [int(key) for key in keys], *rest], "torch": self.torch,
            "cuda": list(self.cuda),
        }
        torch.save(plain, folder / DRAWS)

    @classmethod
    def load(cls, folder: Path) -> Draws | None:
        """Those of a checkpoint; None in one of before, which had none."""
        if not (folder / DRAWS).exists():
            return None
        plain = torch.load(folder / DRAWS, map_location="cpu", weights_only=True)
        version, numbers, gauss = plain["python"]
        name, keys, *rest = plain["numpy"]
        return cls(
            python=(version, tuple(numbers), gauss), numpy=(name, numpy.array(keys, dtype=numpy.uint32), *rest), torch=plain["torch"],
            cuda=tuple(plain["cuda"]),
        )


def begin_at(seed: int) -> None:
    """All generators at the beginning of a run."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
