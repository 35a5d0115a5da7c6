"""The recipes that come with Heron: settings with their reasons, each a commented TOML file beside this one.

The comment that opens a file says in its first line what is learnt, and may name the card that the settings are meant for, as in
`# Card: 16GB`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from heron.config.model import EMBEDDED
from heron.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings under a name."""

    name: str
    """What `heron train NAME` takes."""
    summary: str
    """One line: the first comment of the file."""
    card: str | None
    """What `heron plan --gpu` takes, for the least card that it is meant for; None: it needs none."""
    model: str
    """Folder or hub id; `embedded` for the model that is built here."""
    path: Path
    """The TOML file."""

    @property
    def needs_download(self) -> bool:
        """The model comes from elsewhere."""
        return self.model != EMBEDDED


def recipes() -> tuple[Recipe, ...]:
    """Every recipe, by name."""
    folder = Path(__file__).parent / "recipes"
    return tuple(_read(path) for path in sorted(folder.glob("*.toml")))


def find_recipe(name: str, place: str = "") -> Recipe:
    """The recipe called `name`; `place` opens the error if there is none."""
    known = {recipe.name: recipe for recipe in recipes()}
    if name in known:
        return known[name]
    hint = did_you_mean(name, known) or f" The recipes are {', '.join(known)}; a settings file ends with .toml."
    raise ConfigError(f'{place}There is no recipe "{name}".{hint}')


def _read(path: Path) -> Recipe:
    text = path.read_text(encoding="utf-8")
    head = re.match(r"(?:#.*\n)+", text)
    card = re.search(r"^# Card: (\S+)$", head[0] if head else "", re.MULTILINE)
    return Recipe(
        name=path.name.removesuffix(".toml"), summary=text.split("\n", 1)[0].removeprefix("#").strip(), card=card[1] if card else None,
        model=tomllib.loads(text)["model"]["name"], path=path,
    )
