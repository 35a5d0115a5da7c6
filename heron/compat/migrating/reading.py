"""Which kind of file it is, and how it is read."""

from __future__ import annotations

from pathlib import Path

from heron.compat.migrating.finding import Migration
from heron.compat.migrating.notebook import migrate_notebook
from heron.compat.migrating.python import migrate_python
from heron.compat.migrating.recipe import migrate_recipe
from heron.errors import ConfigError

SCRIPTS = {".py": migrate_python, ".ipynb": migrate_notebook}
CONFIGS = (".yaml", ".yml")


def migrate(path: Path, out: Path = Path("recipe.toml")) -> Migration:
    """What is to be changed in a file of TRL's or Unsloth's; `out` is where a recipe will lie."""
    kind = path.suffix.lower()
    if kind not in (*SCRIPTS, *CONFIGS):
        known = ", ".join((*SCRIPTS, *CONFIGS))
        raise ConfigError(f"{path} is none of {known}. Give a script, a notebook, or a config of TRL's command line.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return migrate_recipe(text, path.name, out) if kind in CONFIGS else SCRIPTS[kind](text, path.name)
