"""`heron warmup`: supervised fine-tuning on the format, before reinforcement learning.

The one hard idea: it ends with the command that goes on from here. That says all that this one said, names the new start, and takes back
what a recipe says about a warm-up, which is done.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heron.config import Config


def warmup(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    recipe: Annotated[str | None, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file. Default: arithmetic.")] = None,
) -> None:
    """Fine-tune a model on demonstrations, such as --warmup.dataset=rows.jsonl. Takes the same settings as `heron train`."""
    from heron import api
    from heron.cli.run import words_of
    from heron.config import load_config

    source, given = words_of(context, recipe)
    config = load_config(source, given)
    warmed = api.warmup_config(config, out)
    typer.echo(warmed.sentence)
    typer.echo(f"It is in {warmed.folder}. Next:\n  {next_command(source, given, config, warmed.folder)}")
    if warmed.steps < warmed.of_steps:
        raise typer.Exit(130)


def next_command(source: str | None, given: Mapping[str, Mapping[str, Any]], config: Config, folder: Path) -> str:
    """The `heron train` that goes on from this folder."""
    start = "adapter" if config.model.has_adapter else "name"
    kept = {section: dict(values) for section, values in given.items() if section != "warmup"}
    kept.setdefault("model", {})[start] = str(folder)
    settings = [_setting(section, key, value) for section, values in kept.items() for key, value in values.items()]
    return shlex.join(["heron", "train", *([source] if source else []), *settings, *_without_warmup(source, kept)])


def _without_warmup(source: str | None, given: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What takes back the recipe's own section."""
    from heron.config import WarmupConfig, load_config

    written, plain = load_config(source, given).warmup, WarmupConfig()
    return [
        _setting("warmup", name, getattr(plain, name))
        for name in WarmupConfig.__dataclass_fields__ if getattr(written, name) != getattr(plain, name)
    ]


def _setting(section: str, key: str, value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return f"--{section}.{key}={text}"
