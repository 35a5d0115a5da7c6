"""What a model's name means: a folder here, or an id on the hub.

The hard idea: a misspelt folder must not become a request to the hub, which takes a minute to fail. What can only be a folder, or is nearly
the name of one with a model, is refused here. What it leaves out: whether the hub has the id, which loading finds out.
"""

from __future__ import annotations

import re
from pathlib import Path

from heron.config.model import EMBEDDED
from heron.errors import ModelError, did_you_mean


def locate(name: str) -> str:
    """A folder's absolute path, so that a run finds its start from anywhere; else a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    near = _near_model(name)
    is_hub_id = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not name.startswith(".")
    if not is_hub_id or (near and "/" not in name):
        raise ModelError(f"There is no model folder {name!r}.{near} Give a folder in Hugging Face format, or a hub id such as "
                         "Qwen/Qwen3-0.6B, with its owner.")
    return name


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that a branch or tag of a hub id stands for, once it is in the cache; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return None
    found = try_to_load_from_cache(name, "config.json", revision=revision)  # .../snapshots/<commit>/config.json
    return Path(found).parent.name if isinstance(found, str) else None


def no_folder(name: str) -> str:
    """What to add to the hub's refusal: it may not have been a hub id that was meant."""
    return "" if Path(name).is_dir() else f"\nThere is no folder {name!r} here either.{_near_model(name)}"


def _near_model(name: str) -> str:
    """`' Did you mean "tiny"?'` for the nearest folder with a model where `name` would be, or the embedded model; or an empty string."""
    path = Path(name).expanduser()
    beside = sorted(config.parent.name for config in path.parent.glob("*/config.json"))
    named = [EMBEDDED] if "/" not in name and name != EMBEDDED else []
    return did_you_mean(path.name, [*named, *beside])
