"""Recipe < file < overrides: makes the one `Config` of a run, and writes it down again.

The idea: every source is a `Layer`, read against the schema by itself, so that an error can still say which file and
line it stands in. Merging is then plain: later layers win, tables are merged, lists are replaced; only a subset leaves
with the dataset that it was named for. A config that Heron has written says `resolved = true`: it is complete, so
nothing is laid beneath it, whatever became of its recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.config.document import Document
from heron.config.layer import Layer, Place, read_layer, section_types
from heron.config.recipe import find_recipe
from heron.config.schema import Config
from heron.errors import ConfigError

DEFAULT_RECIPE = "arithmetic"


def load_config(source: str | Path | None = None, *overrides: Mapping[str, Any]) -> Config:
    """The config of a recipe name or a .toml file, with each nested mapping in `overrides` laid on top in turn."""
    name, layers = _layers_of(DEFAULT_RECIPE if source is None else source)
    for override in overrides:
        _refuse_recipe(override)
        layers.append(read_layer(override, _nowhere))
    return _build(name, layers)


def config_from_dict(mapping: Mapping[str, Any], origin: str) -> Config:
    """The config that `Config.as_dict` (or a parsed `to_toml`) holds: laid on the schema's defaults, not on a recipe.

    `origin` opens every error, as in `'run 12: '`.
    """

    def place(keys: tuple[str, ...]) -> str:
        return f"{origin}: "

    tables = dict(mapping)
    name = _typed(tables.pop("recipe", "custom"), str, "recipe", place)
    _typed(tables.pop("resolved", True), bool, "resolved", place)
    return _build(name, [read_layer(tables, place)])


def to_toml(config: Config) -> str:
    """Every setting as TOML; `load_config` of a file with this text gives an equal config."""
    import tomli_w

    tables = config.as_dict()
    head = {"recipe": tables.pop("recipe"), "resolved": True}
    return "# Every setting of one run, as it was resolved.\n" + tomli_w.dumps(head | tables)


def _layers_of(source: str | Path) -> tuple[str, list[Layer]]:
    """The name to record, and the layers from the bottom up."""
    if isinstance(source, Path) or source.endswith(".toml"):
        path = Path(source).expanduser()
        return _layers_of_file(path, path.name)
    recipe = find_recipe(source)
    return _layers_of_file(recipe.path, recipe.name)


def _layers_of_file(path: Path, name: str) -> tuple[str, list[Layer]]:
    document = Document.read(path)
    tables = dict(document.tables)
    base = _typed(tables.pop("recipe", ""), str, "recipe", document.place)
    is_resolved = _typed(tables.pop("resolved", False), bool, "resolved", document.place)
    layer = read_layer(tables, document.place)
    if is_resolved:
        return base or name, [layer]
    if not base:
        return name, [layer]
    beneath = find_recipe(base, document.place(("recipe",)))
    return name, [*_layers_of_file(beneath.path, beneath.name)[1], layer]


def _build(name: str, layers: Sequence[Layer]) -> Config:
    types = section_types()
    merged: dict[str, dict[str, Any]] = {section: {} for section in types}
    for section in merged:
        given = [layer[section] for layer in layers if section in layer]
        named = [values["dataset"] for values in given if "dataset" in values]
        for values in given:
            merged[section] |= _without_replaced_subset(values, named[-1] if named else None)
    _check_tags(merged["tags"])
    return Config(recipe=name, **{section: make(**merged[section]) for section, make in types.items()})


def _without_replaced_subset(values: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """A section's values. If they name a dataset with a subset, and `dataset` is used in its place, the subset goes with it."""
    if values.get("dataset", dataset) == dataset:
        return values
    return {key: value for key, value in values.items() if key != "subset"}


def _check_tags(given: Mapping[str, str]) -> None:
    tags = list(section_types()["tags"](**given))
    if any(not tag.strip() for tag in tags) or len(set(tags)) < len(tags):
        raise ConfigError(f"tags must be four different texts, none of them empty, but they are {tags}.")


def _refuse_recipe(override: Mapping[str, Any]) -> None:
    if "recipe" in override:
        raise ConfigError(
            f"recipe cannot be overridden (given {override['recipe']!r}). "
            'Name the recipe in its own place, as in `heron train gsm8k` or load_config("gsm8k").'
        )


def _typed(value: Any, wanted: type, key: str, place: Place) -> Any:
    if not isinstance(value, wanted):
        words = {str: "text", bool: "true or false"}[wanted]
        raise ConfigError(f"{place((key,))}{key} must be {words}, but it is {value!r}.")
    return value


def _nowhere(keys: tuple[str, ...]) -> str:
    return ""
