"""`heron train`, `heron resume`, `heron plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heron.config import Config

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file. Default: arithmetic.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where to record the run. Default: runs/<recipe>-<time>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything that is drawn. Default: the recipe's.")] = None,
) -> None:
    """Train a model. Any setting can be given as [bold]--section.key=value[/bold], such as --train.max_steps=50."""
    from heron import api

    config = _config(recipe, context.args, {} if seed is None else {"train": {"seed": seed}})
    finished = api.train_config(config, run_dir or api.default_run_dir(config))
    if finished.status == "interrupted":
        raise typer.Exit(130)


def resume(run_dir: RunDir) -> None:
    """Go on with an interrupted run from its last checkpoint."""
    from heron import api

    if api.resume(run_dir).status == "interrupted":
        raise typer.Exit(130)


def plan(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe or a TOML file. Default: arithmetic.")] = None,
) -> None:
    """Say how much memory a run will take, before anything is loaded. Takes the same settings as `heron train`."""
    from heron.cli.show import print_plan
    from heron.training.cost import plan_of

    print_plan(plan_of(_config(recipe, context.args, {})))


def _config(recipe: str | None, words: Sequence[str], last: Mapping[str, Any]) -> Config:
    """The config that a command line asks for: one recipe or file anywhere among `--section.key=value` and `--section.key value`."""
    from heron.config import load_config, parse_overrides
    from heron.errors import ConfigError

    queue = [*([] if recipe is None else [recipe]), *words]
    names: list[str] = []
    settings: list[str] = []
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            names.append(word)
        else:
            settings += [word] if "=" in word or not queue else [word, queue.pop(0)]
    if len(names) > 1:
        raise ConfigError(f"Give one recipe or file, not {len(names)}: {', '.join(names)}. Files lie on a recipe by `recipe = ...` inside.")
    return load_config(names[0] if names else None, parse_overrides(settings), last)
