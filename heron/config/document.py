"""A TOML file that can say on which line a key stands.

`tomllib` keeps no positions. A key's line is found by parsing ever longer beginnings of the text: the first beginning
that holds the key ends with its statement, and the statement began after the last beginning that could be parsed. This
is slow for long files, but needed only once there is an error to report.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heron.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed settings file."""

    path: Path
    """Where it was read from."""
    text: str
    """As written."""
    tables: Mapping[str, Any]
    """As parsed."""

    @classmethod
    def read(cls, path: Path) -> Document:
        """The file's tables; a `ConfigError` if it is absent or not TOML."""
        if not path.is_file():
            raise ConfigError(f"There is no settings file {path}.{_near(path)}")
        try:
            text = path.read_text(encoding="utf-8-sig")
            return cls(path=path, text=text, tables=tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}. Text values need quotes.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error

    def place(self, keys: tuple[str, ...]) -> str:
        """`'my.toml, line 3: '`, to open an error about the key at `keys`."""
        return f"{self.path}, line {self.line(keys)}: "

    def line(self, keys: tuple[str, ...]) -> int:
        """The line, counted from 1, on which the statement that first names `keys` begins."""
        lines = self.text.split("\n")
        begin = 1
        for count in range(1, len(lines) + 1):
            tables = _parsed("\n".join(lines[:count]))
            if tables is None:
                continue
            if _holds(tables, keys):
                return begin
            begin = count + 1
        raise AssertionError(f"{keys} is not in {self.path}")


def _near(path: Path) -> str:
    return did_you_mean(path.name, (other.name for other in path.parent.glob("*.toml")))


def _parsed(text: str) -> Mapping[str, Any] | None:
    """The tables, or None if the text stops in the middle of a statement."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _holds(table: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(table, Mapping) or key not in table:
            return False
        table = table[key]
    return True
