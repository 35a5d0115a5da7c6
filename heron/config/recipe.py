"""The recipes that come with Heron: settings that are known to work, each a commented TOML file beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heron.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings under a name."""

    name: str
    """What `heron train NAME` takes."""
    summary: str
    """One line: the first comment of the file."""
    path: Path
    """The TOML file."""


def recipes() -> tuple[Recipe, ...]:
    """Every recipe, by name."""
    folder = Path(__file__).parent / "recipes"
    return tuple(Recipe(name=path.stem, summary=_summary(path), path=path) for path in sorted(folder.glob("*.toml")))


def find_recipe(name: str, place: str = "") -> Recipe:
    """The recipe called `name`; `place` opens the error if there is none."""
    known = {recipe.name: recipe for recipe in recipes()}
    if name in known:
        return known[name]
    hint = did_you_mean(name, known) or f" The recipes are {', '.join(known)}; a settings file ends with .toml."
    raise ConfigError(f'{place}There is no recipe "{name}".{hint}')


def _summary(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip()
