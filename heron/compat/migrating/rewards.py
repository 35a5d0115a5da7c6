"""The rewards of TRL's command line, in its order and with their weights, as names in a recipe.

What TRL ships is named in a file that is written beside the recipe, so that it stays TRL's formula; a dotted path is the file that it
means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heron.compat.notes import Kind

OWN = {"get_soft_overlong_punishment": "shaping.overlong(most=1280, buffer=256)"}
"""Rewards of TRL's scripts that are in Heron word for word, with the values that TRL's scripts give them."""
SHIPPED = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")
"""Those that `heron.compat.trl.rewards` has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """The section `rewards`, and what became of the options that it was made from."""

    settings: Mapping[str, Any]
    """`functions` and `weights`, where they were given."""
    told: Mapping[str, tuple[Kind, str]]
    """By option."""
    files: Mapping[Path, str]
    """What must lie beside the recipe."""


def rewards_of(given: Mapping[str, Any], file: Path) -> Rewards:
    """What a recipe says of `reward_funcs`, `reward_weights` and `reward_model_name_or_path`, with `file` for what TRL ships."""
    listed = given.get("reward_funcs") or []
    names = [listed] if isinstance(listed, str) else list(listed)
    found = {name: named for name in names if (named := _name(name, file)) is not None}
    told: dict[str, tuple[Kind, str]] = {}
    if given.get("reward_funcs") is not None:
        told["reward_funcs"] = _of_functions(names, found, file)
    settings: dict[str, Any] = {"functions": [found[name] for name in names if name in found]}
    if given.get("reward_weights") is not None:
        settings["weights"], told["reward_weights"] = _weights(given, names, found)
    shipped = [name for name in dict.fromkeys(names) if name in SHIPPED]
    text = f"from heron.compat.trl.rewards import {', '.join(shipped)}\n\n__all__ = {shipped!r}\n"
    return Rewards(
        settings={key: value for key, value in settings.items() if value}, told=told, files={file: text} if shipped else {},
    )


def _name(name: str, file: Path) -> str | None:
    """In a recipe; None if TRL does not know it either."""
    if name in SHIPPED:
        return f"{file.as_posix()}:{name}"
    module, _, function = name.rpartition(".")
    return OWN.get(name) or (f"{module.replace('.', '/')}.py:{function}" if module else None)


def _of_functions(names: list[str], found: Mapping[str, str], file: Path) -> tuple[Kind, str]:
    if left := [name for name in names if name not in found]:
        return Kind.UNSUPPORTED, (f"No rewards of TRL's scripts, so left out: {', '.join(left)}. There are {', '.join(OWN)}, "
                                  f"{', '.join(SHIPPED)}, and dotted paths such as my_lib.rewards.custom_reward.")
    return Kind.DIFFERS, " ".join([f"rewards.functions = {[found[name] for name in names]!r}.", *_remarks(names, file)])


def _remarks(names: list[str], file: Path) -> Iterator[str]:
    if any(name in SHIPPED for name in names):
        yield f"{file} is written beside the recipe (--out), and imports TRL's from heron.compat.trl.rewards."
    if any("accuracy" in name and name in SHIPPED for name in names):
        yield "Right or wrong is decided by Heron's verifier `math`, which wants a finished answer."
    if any("." in name for name in names):
        yield "A path is read from the folder in which you train."


def _weights(given: Mapping[str, Any], names: list[str], found: Mapping[str, str]) -> tuple[list[float], tuple[Kind, str]]:
    """Of the functions that are named, in their order; a reward model comes first in TRL."""
    weights, models = list(given["reward_weights"]), 1 if given.get("reward_model_name_or_path") else 0
    if len(weights) != models + len(names):
        return [], (Kind.UNSUPPORTED, f"There are {len(weights)} weights for {models + len(names)} rewards, which TRL refuses, too. Set "
                                      "rewards.weights, one for each of rewards.functions.")
    kept = [float(weight) for name, weight in zip(names, weights[models:], strict=True) if name in found]
    if not kept:
        return [], (Kind.UNSUPPORTED, "Their rewards are left out. Set rewards.weights, one for each of rewards.functions.")
    return kept, (Kind.RENAMED, f"rewards.weights = {kept!r}.")
