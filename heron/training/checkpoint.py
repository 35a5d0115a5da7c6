"""Checkpoints: a folder that is either complete or ignored.

Everything is written under a temporary name, the manifest (sizes and SHA-256 of every file) last, and the folder is renamed into
place. What is drawn depends on (seed, step) alone, so weights, optimizer and step are the whole state.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from heron.errors import RunError
from heron.models.policy import Policy
from heron.objective import AdaptiveEntropy, FixedEntropy
from heron.rollout import InFlight

MANIFEST = "MANIFEST.json"


@dataclass(slots=True)
class TrainState:
    """The only counters of a run; checkpointed whole."""

    step: int = 0
    """Batches of rollouts trained on."""
    policy_version: int = 0
    """Optimizer steps taken."""
    num_tokens: int = 0
    """Tokens sampled for training."""
    seconds: float = 0.0
    """Time spent in steps, over all sittings."""
    entropy: FixedEntropy | AdaptiveEntropy = field(default_factory=FixedEntropy)
    """The entropy bonus for the next optimizer step."""
    prompts_begun: int = 0
    """Prompts that sampling has begun with, where groups are carried from step to step."""
    in_flight: list[InFlight] = field(default_factory=list)
    """Groups that the next step goes on with."""


class Checkpoints:
    """The `checkpoints/` folder of a run."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, policy: Policy, optimizer: torch.optim.Optimizer, state: TrainState) -> Path:
        """Write `step-000100/`; older checkpoints beyond `keep` are removed afterwards."""
        final = self.folder / f"step-{state.step:06d}"
        partial = self.folder / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        policy.save(partial / "model")
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "state.json").write_text(json.dumps(asdict(state)))
        _seal(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _sync_folder(self.folder)
        for old in self._superseded(final):
            shutil.rmtree(old)
        return final

    def _superseded(self, newest: Path) -> list[Path]:
        """Older checkpoints beyond `keep`, and later ones: those belong to a history that was damaged and taken back."""
        known = sorted(self.folder.glob("step-*"))
        kept = [path for path in known if path <= newest][-self.keep :]
        return [path for path in known if path not in kept]

    def latest(self) -> Path | None:
        """The newest complete checkpoint; incomplete or damaged ones are passed over."""
        candidates = sorted(self.folder.glob("step-*"), reverse=True)
        return next((path for path in candidates if is_complete(path)), None)


def load_state(path: Path) -> TrainState:
    """The counters of a checkpoint."""
    values = json.loads((path / "state.json").read_text())
    bonus = values.pop("entropy", asdict(FixedEntropy()))  # checkpoints of before had none
    values["in_flight"] = [InFlight.of_dict(flight) for flight in values.pop("in_flight", ())]
    return TrainState(**values, entropy=FixedEntropy(**bonus) if bonus.keys() == {"coef"} else AdaptiveEntropy(**bonus))


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Load the optimizer's moments from a checkpoint."""
    try:
        optimizer.load_state_dict(torch.load(path / "optimizer.pt", map_location=device, weights_only=True))
    except (ValueError, KeyError) as error:
        raise RunError(f"The optimizer state in {path} does not fit this model: {error}. Was model.method or lora_rank changed?") from error


def checkpoint_size(path: Path) -> int:
    """Bytes of a checkpoint."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def is_complete(path: Path) -> bool:
    """True if the manifest is there and every file is as it says."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return all(
        (path / name).is_file() and (path / name).stat().st_size == entry["bytes"] and _sha256(path / name) == entry["sha256"]
        for name, entry in manifest.items()
    )


def _seal(folder: Path) -> None:
    """Flush every file to disk and write the manifest last."""
    manifest = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(_files(folder))
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in [*_files(folder), folder]:
        _sync_folder(path)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_folder(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
