"""Everything of a run at the end of a step, copied to the host's memory, where training can no longer change it.

The one hard idea: only the copying keeps training waiting; what is done with the copy is somebody else's time. On a CPU the weights lie in
the host's memory already, and they are copied all the same: they are about to move.

Left out: what a run never changes (the base beneath an adapter, the start that a KL is measured from). A checkpoint names it, with the
SHA-256 of its files, and a resumed run finds it where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heron.errors import RunError
from heron.models.policy import Policy
from heron.training.keeping.draws import Draws
from heron.training.keeping.origin import Origin
from heron.training.keeping.state import STATE, TrainState

ABOUT, OPTIMIZER, CONFIG = "about.json", "optimizer.pt", "config.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run as it was."""

    step: int
    """Steps that were finished."""
    policy: Policy
    """Whose weights they are: it knows how a model's files are written."""
    weights: Mapping[str, Tensor]
    """What is saved of the model: all of it, or its adapter."""
    optimizer: Mapping[str, Any]
    """The optimizer's state."""
    state: str
    """The counters, as JSON."""
    draws: Draws
    """The random generators."""
    config: str
    """The settings that this was trained with, as TOML."""
    about: Mapping[str, Any]
    """What else goes with it: where the record was, the data, the judge."""
    origin: Origin | None
    """The start of the run."""

    @classmethod
    def taken(
        cls, policy: Policy, optimizer: torch.optim.Optimizer, state: TrainState, draws: Draws, *, config: str = "",
        about: Mapping[str, Any] | None = None, origin: Origin | None = None,
    ) -> Snapshot:
        """Copy it all."""
        return cls(
            step=state.step, policy=policy, weights=copied(policy.saved_weights(), {}), optimizer=copied(optimizer.state_dict(), {}),
            state=state.to_json(), draws=draws, config=config, about=about or {}, origin=origin,
        )

    @property
    def num_bytes(self) -> int:
        """What its files will take, but for a few small ones."""
        return len(self.state) + sum(tensor.nbytes for tensor in _tensors([self.weights, self.optimizer]))

    def write(self, folder: Path) -> None:
        """All of its files into a folder that is there."""
        self.policy.save(folder / "model", weights=self.weights)
        torch.save(self.optimizer, folder / OPTIMIZER)
        (folder / STATE).write_text(self.state)
        self.draws.save(folder)
        (folder / CONFIG).write_text(self.config)
        origin = {} if self.origin is None else {"start": self.origin.record()}
        (folder / ABOUT).write_text(json.dumps({"step": self.step, **self.about, **origin}, indent=1))


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Load the optimizer's moments from a checkpoint."""
    try:
        optimizer.load_state_dict(torch.load(path / OPTIMIZER, map_location=device, weights_only=True))
    except (ValueError, KeyError) as error:
        raise RunError(f"The optimizer state in {path} does not fit this model: {error}. Was model.method or lora_rank changed?") from error


def load_about(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; empty in one of before."""
    file = path / ABOUT
    return dict(json.loads(file.read_text())) if file.exists() else {}


def copied(value: Any, seen: dict[Any, Tensor]) -> Any:
    """The value with every tensor in it copied to the host; weights that are tied stay one tensor."""
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else id(value)
        if key not in seen:
            seen[key] = value.detach().to("cpu", copy=True)
        return seen[key]
    if isinstance(value, Mapping):
        return {key: copied(each, seen) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(each, seen) for each in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in it, each once."""
    found: dict[int, Tensor] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            found[id(each)] = each
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
    return list(found.values())
