"""`--section.key=value` from a command line, as a nested mapping.

The hard part is what a shell has left of the quotes. A value is read as TOML (`3`, `1e-5`, `true`, `["a", "b"]`); what
is not TOML is taken as text, and so is everything that is given for a setting that holds text: `--model.revision=0123`
keeps its zero. Whether the key exists and the type fits is decided later, where a file's settings are checked too.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterator, Sequence
from typing import Any

from heron.config.layer import field_types, section_types
from heron.errors import ConfigError


def parse_overrides(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["--train.max_steps=3", "--train.seed", "1"]` as `{"train": {"max_steps": 3, "seed": 1}}`; the last one wins."""
    overrides: dict[str, dict[str, Any]] = {}
    for name, text in _pairs(arguments):
        section, key = _split(name)
        overrides.setdefault(section, {})[key] = _value(text, _holds_text(section, key))
    return overrides


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--") or argument == "--":
            raise ConfigError(f"{argument!r} is not a setting. Settings are given as --section.key=value.")
        name, equals, text = argument[2:].partition("=")
        if not equals:
            text = next(remaining, "--")
            if text.startswith("--"):
                raise ConfigError(f"--{name} has no value. Settings are given as --section.key=value.")
        yield name, text


def _split(name: str) -> tuple[str, str]:
    section, _, key = name.partition(".")
    if section and key and "." not in key:
        return section, key
    owners = [f"--{owner}.{name}=VALUE" for owner in section_types() if name in field_types(owner)]
    hint = f" Did you mean {owners[0]}?" if owners else " Settings are given as --section.key=value."
    raise ConfigError(f"--{name} does not name a setting.{hint}")


def _holds_text(section: str, key: str) -> bool:
    wanted = field_types(section).get(key) if section in section_types() else None
    return wanted is str or (isinstance(wanted, types.UnionType) and str in wanted.__args__)


def _value(text: str, is_text: bool) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = tables["value"]
    keeps_text = (is_text and not isinstance(value, str)) or len(tables) > 1
    return text if keeps_text else value
