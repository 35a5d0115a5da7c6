"""`heron train`, `heron resume`, `heron plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file. Default: arithmetic.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where to record the run. Default: runs/<recipe>-<time>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything that is drawn. Default: the recipe's.")] = None,
) -> None:
    """Train a model. Any setting can be given as [bold]--section.key=value[/bold], such as --train.max_steps=50."""
    from heron import api
    from heron.config import load_config, parse_overrides

    given = {} if seed is None else {"train": {"seed": seed}}
    config = load_config(recipe, parse_overrides(context.args), given)
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
    from heron.config import load_config, parse_overrides
    from heron.training.cost import plan_of

    config = load_config(recipe, parse_overrides(context.args))
    print_plan(plan_of(config))
