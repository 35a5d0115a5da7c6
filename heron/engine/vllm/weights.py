"""What is pushed: an adapter as a folder under a name that was never used, or every tensor of a full model by name.

The one hard idea: a name that was used before may find what was there before, in vLLM or in its cache of prompts. So each push has a
name of its own, with a part that is drawn when the engine is made. Left out: adapters handed over as tensors, for which vLLM has no
public way; a folder in shared memory costs some milliseconds and no disk.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from heron.errors import EngineError
from heron.models.adapters import TRAINED
from heron.models.policy import Policy

SHARED_MEMORY = Path("/dev/shm")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Sizes that vLLM can make room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One push of an adapter, as vLLM knows it."""

    name: str
    """Never used twice."""
    number: int
    """Counts pushes from 1; vLLM's own id of it."""
    folder: Path
    """Where it was written. It may be gone once vLLM has read it."""


class Names:
    """Names for pushes: a random part for this engine, the version, a count."""

    def __init__(self) -> None:
        self._own = secrets.token_hex(4)
        self._count = 0

    def next(self, version: int, folder: Path) -> Adapter:
        """A new adapter, to be written into a folder of its name."""
        self._count += 1
        name = f"heron-{self._own}-v{version}-{self._count}"
        return Adapter(name=name, number=self._count, folder=folder / name)


def write_adapter(policy: Policy, folder: Path) -> None:
    """The policy's adapter in PEFT's layout."""
    folder.mkdir(parents=True)
    policy.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False, selected_adapters=[TRAINED])


def write_tensors(policy: Policy, folder: Path) -> None:
    """Every tensor in one file, tied ones once under each name."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file({name: tensor.detach().clone() for name, tensor in named_tensors(policy)}, str(folder / "model.safetensors"))


def named_tensors(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a full model by its name in the checkpoint. A tied head comes under both of its names: vLLM may keep two copies
    of it, and a copy that is not named is not renewed."""
    for name, tensor in policy.model.state_dict().items():
        yield name, tensor.detach()


def room_for(policy: Policy) -> int:
    """The smallest rank of vLLM's that holds the policy's adapter."""
    config = policy.model.peft_config[TRAINED]
    rank = max((config.r, *(config.rank_pattern or {}).values()))
    if rank > RANKS[-1]:
        raise EngineError(f"The adapter has rank {rank}, but vLLM takes at most {RANKS[-1]}. Lower model.lora_rank, or use the native "
                          "engine.")
    return min(room for room in RANKS if room >= rank)


@contextlib.contextmanager
def short_lived_folder() -> Iterator[Path]:
    """A folder in memory where there is one, gone on leaving."""
    place: Any = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="heron-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
