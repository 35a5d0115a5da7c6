"""One source of settings, read against the schema: unknown keys and wrong types end here, with the place they stand in.

The hard part is being strict without being a nuisance. Some values are another way to write the same: a list for a
tuple, a whole number for a number, a path for a text, and the word "none" (TOML has no null) where a setting may be
left out. Everything else is an error. Ranges are the schema's own business: it checks them once the layers are merged.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from heron.config.schema import Config
from heron.errors import ConfigError, did_you_mean

Layer = dict[str, dict[str, Any]]
"""Values by section and key, each of the type that its field has."""

Place = Callable[[tuple[str, ...]], str]
"""Says where a key was written, as the opening of an error message: `'my.toml, line 3: '`, or an empty string."""


def read_layer(tables: Mapping[str, Any], place: Place) -> Layer:
    """The layer that nested `tables` spell, or a `ConfigError` about the first key that is wrong."""
    return {section: _read_section(section, table, place) for section, table in tables.items()}


@functools.cache
def section_types() -> dict[str, Any]:
    """The dataclass of each section, by name."""
    hints = typing.get_type_hints(Config)
    return {field.name: hints[field.name] for field in dataclasses.fields(Config) if field.name != "recipe"}


@functools.cache
def field_types(section: str) -> dict[str, Any]:
    """The type of each setting of a known section, by key."""
    hints = typing.get_type_hints(section_types()[section])
    return {field.name: hints[field.name] for field in dataclasses.fields(section_types()[section])}


def _read_section(section: str, table: Any, place: Place) -> dict[str, Any]:
    if section not in section_types():
        raise ConfigError(f'{place((section,))}There is no section "{section}".{_section_hint(section)}')
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{place((section,))}{section} is a section, but it is given {table!r}. "
            f"Write its settings as {section}.key = value."
        )
    return {key: _read_field(section, key, value, place) for key, value in table.items()}


def _read_field(section: str, key: str, value: Any, place: Place) -> Any:
    wanted = field_types(section).get(key)
    if wanted is None:
        raise ConfigError(f'{place((section, key))}There is no setting "{section}.{key}".{_key_hint(section, key)}')
    try:
        return _read(value, wanted)
    except _WrongType:
        raise ConfigError(
            f"{place((section, key))}{section}.{key} must be {_words(wanted)}, but it is {value!r}."
            f"{_shape_hint(value, wanted)}"
        ) from None


def _section_hint(word: str) -> str:
    owners = _owners(word)
    if owners:
        return f' Did you mean "{owners[0]}"?'
    return did_you_mean(word, section_types()) or f" The sections are {', '.join(section_types())}."


def _key_hint(section: str, key: str) -> str:
    near = did_you_mean(key, field_types(section))
    elsewhere = [f'"{owner}"' for owner in _owners(key)]
    if elsewhere:
        return f"{near} There is {' and '.join(elsewhere)}."
    return near or f" The settings of {section} are {', '.join(field_types(section))}."


def _owners(key: str) -> list[str]:
    return [f"{section}.{key}" for section in section_types() if key in field_types(section)]


def _shape_hint(value: Any, wanted: Any) -> str:
    if typing.get_origin(wanted) is tuple and isinstance(value, str):
        return f' Write ["{value}"], with the brackets and quotes.'
    return ""


class _WrongType(Exception):
    """A value is not of the type that its field has."""


def _read(value: Any, wanted: Any) -> Any:
    """`value` as an instance of the annotation `wanted`."""
    if isinstance(wanted, types.UnionType):
        is_none = value is None or (isinstance(value, str) and value.lower() == "none")
        return None if is_none else _read(value, _without_none(wanted))
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple):
            raise _WrongType
        return tuple(_read(item, typing.get_args(wanted)[0]) for item in value)
    if not _SCALARS[wanted].accepts(value):
        raise _WrongType
    return wanted(value)


def _words(wanted: Any) -> str:
    """The annotation in words, for an error."""
    if isinstance(wanted, types.UnionType):
        return f'{_words(_without_none(wanted))} (or "none")'
    if typing.get_origin(wanted) is tuple:
        return f"a list of {_SCALARS[typing.get_args(wanted)[0]].many}"
    return _SCALARS[wanted].one


def _without_none(union: types.UnionType) -> Any:
    return next(part for part in typing.get_args(union) if part is not types.NoneType)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Scalar:
    """A type that a setting can have."""

    one: str
    """The type in words."""
    many: str
    """Several of them in words."""
    accepts: Callable[[Any], bool]
    """True for a value that may be turned into the type without changing what it means."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Not NaN, and not a whole number so large that a float would round it."""
    return abs(value) <= 2**53 if _is_whole(value) else isinstance(value, float) and value == value


_SCALARS: Mapping[type, _Scalar] = {
    bool: _Scalar(one="true or false", many="true or false", accepts=lambda value: isinstance(value, bool)),
    int: _Scalar(one="a whole number", many="whole numbers", accepts=_is_whole),
    float: _Scalar(one="a number", many="numbers", accepts=_is_number),
    str: _Scalar(one="text", many="texts", accepts=lambda value: isinstance(value, str | PurePath)),
}
