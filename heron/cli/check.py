"""`heron check`: what is wrong with a recipe, before a minute of training is spent. Exit code 3 if it should not be trained."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def check(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file. Default: arithmetic.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts that the model is asked.")] = 16,
    samples: Annotated[int, typer.Option(min=2, help="Answers to each.")] = 8,
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Ask the model.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Look at rows, answers, prompts and rewards, and whether the model can learn from them. Takes the same settings as `heron train`."""
    from heron import api
    from heron.cli.run import config_of

    report = api.check_config(config_of(context, recipe, {}), prompts=prompts if probe else 0, samples=samples, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    if report.refuses:
        raise typer.Exit(3)
