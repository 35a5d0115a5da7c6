"""Adapters in PEFT's layout: what their config says, as settings of the section `model`, and their files without the tokenizer's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.errors import ModelError

CONFIG = "adapter_config.json"
FIELDS = {"lora_rank": "r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
"""Settings, and PEFT's names for them."""


def is_adapter(folder: Path) -> bool:
    """It holds an adapter."""
    return (folder / CONFIG).is_file()


def adapter_config(folder: Path) -> dict[str, Any]:
    """PEFT's own config of it."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG} cannot be read: {error}") from error


def shape(folder: Path) -> dict[str, Any]:
    """Settings that an adapter brings along."""
    made = adapter_config(folder)
    return {name: made.get(field, False) for name, field in FIELDS.items()}


def settings_of(folder: Path) -> dict[str, Any]:
    """Of a model that begins with this adapter, on the base that it was made for."""
    return {"name": adapter_config(folder)["base_model_name_or_path"], "adapter": str(folder), "lora_target_modules": [], **shape(folder)}


def has_tokenizer(settings: Mapping[str, Any]) -> bool:
    """Of a model that begins with an adapter: a tokenizer was saved with that."""
    return "adapter" in settings and (Path(settings["adapter"]) / "tokenizer_config.json").is_file()


def other_than(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What is asked of an adapter that the one in the settings does not have."""
    return [f"{FIELDS[name]}={asked[name]!r} (it has {settings[name]!r})" for name in FIELDS if settings[name] != asked[name]]


def copy_adapter(source: Path, folder: Path) -> None:
    """Config and weights, and nothing beside them: a tokenizer there would be taken for the model's."""
    folder.mkdir(parents=True)
    for file in source.glob("adapter_*"):
        shutil.copy(file, folder / file.name)
