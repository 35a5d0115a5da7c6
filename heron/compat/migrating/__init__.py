"""`heron migrate`: what a script, a notebook or a config of TRL's or Unsloth's says here, line by line, and the file rewritten.

`finding` is one line of the report, `python` reads scripts by their syntax tree, `notebook` the cells of a notebook, `recipe` a config of
TRL's command line, which becomes a recipe.
"""

from heron.compat.migrating.finding import Finding, Migration
from heron.compat.migrating.reading import migrate

__all__ = ["Finding", "Migration", "migrate"]
