"""Which kind of file it is, and how it is read."""

from __future__ import annotations

from pathlib import Path

from heron.compat.migrating.finding import Migration
from heron.compat.migrating.notebook import migrate_notebook
from heron.compat.migrating.python import migrate_python
from heron.compat.migrating.recipe import migrate_recipe
from heron.errors import ConfigError

READERS = {".py": migrate_python, ".ipynb": migrate_notebook, ".yaml": migrate_recipe, ".yml": migrate_recipe}


def migrate(path: Path) -> Migration:
    """What is to be changed in a file of TRL's or Unsloth's."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path} is none of {', '.join(READERS)}. Give a script, a notebook, or a config of TRL's command line.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return reader(text, path.name)
