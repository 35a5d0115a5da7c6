"""What a card calls things: names that lead somewhere, and no more than the last part of a path of this machine.

The one hard idea: a path says who somebody is and leads nowhere elsewhere, so it is cut wherever a name may be one.
"""

from __future__ import annotations

import re
from pathlib import Path

from heron.config import Config
from heron.config.model import EMBEDDED
from heron.data.files import READERS
from heron.models.standing_in import original_of
from heron.run import Run

IN_PYTHON = "trl"
"""Recipe of the runs that a training script began, with rows of its own."""


def public(name: str) -> str:
    """The name; of a path its last part."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if _is_path(name) else name


def base_name(run: Run, config: Config) -> str:
    """Folder or hub id of the base; of a folder that stands in for another model, that one's."""
    original = original_of(run.start_model)
    return config.model.name if original is None else original.name


def hub_id(run: Run, config: Config) -> str | None:
    """The base's name on a hub, or None. Hubs refuse a card that names a folder."""
    name, start = base_name(run, config), str(run.manifest.get("start_model", ""))
    was_folder = Path(start).is_absolute() and start.endswith(f"/{name}")  # also where it is not any more
    is_id = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None
    return name if is_id and name != EMBEDDED and not was_folder and not _is_path(name) else None


def base_of(run: Run, config: Config) -> str:
    """The base, in a sentence."""
    known = hub_id(run, config)
    if known is not None:
        return f"`{known}`"
    name = base_name(run, config)
    return "Heron's embedded model" if name == EMBEDDED else f"a model from the folder `{public(name)}`"


def title_of(run: Run, config: Config) -> str:
    """Base and task, in a few words."""
    name = base_name(run, config)
    base = "Heron's embedded model" if name == EMBEDDED else public(name).rpartition("/")[2]
    if config.recipe == IN_PYTHON:
        return f"{base} after reinforcement learning"
    rows = re.split(r"[/:]", public(config.data.dataset))[-1].removeprefix("tasks.")
    return f"{base} trained on {rows.removesuffix(Path(rows).suffix) if Path(rows).suffix in READERS else rows}"


def data_of(config: Config) -> str:
    """Where the rows came from."""
    return "rows that a training script gave" if config.recipe == IN_PYTHON else f"`{public(config.data.dataset)}`"


def _is_path(name: str) -> bool:
    """It says where something lies on a disk."""
    return (name.startswith(("/", ".", "~")) or "\\" in name or ".py:" in name or name.count("/") > 1
            or Path(name).suffix in READERS or (name != EMBEDDED and Path(name).exists()))
