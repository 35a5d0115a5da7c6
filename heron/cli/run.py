"""`heron train`, `heron resume`, and the config that a command line asks for."""

from __future__ import annotations

import contextlib
import difflib
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heron.config import Config
    from heron.run import Run

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file. Default: arithmetic.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where to record the run. Default: runs/<recipe>-<time>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything that is drawn. Default: the recipe's.")] = None,
    strict: Annotated[str | None, typer.Option(metavar="ID,...", help="Alerts that stop the run, or `all`. Default: none.")] = None,
    start_from: Annotated[Path | None, typer.Option(
        "--from", metavar="RUN", help="Begin with the trained model of this run, and with its settings; of a recipe's, with its model "
        "alone.")] = None,
    forever: Annotated[bool, typer.Option(
        "--forever", help="Train until Ctrl-C or SIGTERM, and take rows that are appended to data.dataset, a file of JSON lines.")] = False,
    resumed: Annotated[Path | None, typer.Option(
        "--resume", metavar="RUN", help="Go on with this run instead of beginning one; the same as `heron resume RUN`.")] = None,
) -> None:
    """Train a model. Any setting can be given as [bold]--section.key=value[/bold], such as --train.max_steps=50."""
    from heron import api
    from heron.config import load_config

    asked = {"seed": seed, "strict": strict and strict.split(","), "forever": forever or None}
    given = {"train": {key: value for key, value in asked.items() if value is not None}}
    if resumed is not None:
        names, settings = _names_and_settings(context, recipe)
        _resume([resumed], [*names, *([] if start_from is None else [f"--from {start_from}"])], settings, given, run_dir)
        return
    source, overrides = words_of(context, recipe)
    config = load_config(source, overrides, given) if start_from is None else api.config_from(start_from, source, overrides, given)
    path = run_dir or api.default_run_dir(config)
    with _last_words(path):
        _end(api.train_config(config, path, start_from=start_from))


def resume(context: typer.Context, run_dir: RunDir) -> None:
    """Go on with an interrupted run from its last checkpoint, or with a finished one that is given more steps
    ([bold]--train.max_steps=600[/bold]). Settings that decide what is learnt cannot change."""
    _resume([], *_names_and_settings(context, str(run_dir)), {}, None)


def _resume(
    runs: Sequence[Path], names: Sequence[str], settings: dict[str, dict[str, Any]], given: Mapping[str, Mapping[str, Any]],
    run_dir: Path | None,
) -> None:
    from heron import api
    from heron.errors import ConfigError

    run, *others = [*map(str, runs), *names, *([] if run_dir is None else [f"--run-dir {run_dir}"])]
    if others:
        raise ConfigError(f"{run} has its recipe and its folder already, but {others[0]} is given, too. Leave it out; or begin a new run "
                          f"with the model of this one: heron train --from {run}")
    for section, values in given.items():
        settings.setdefault(section, {}).update(values)
    with _last_words(Path(run)):
        _end(api.resume_config(Path(run), settings))


def _end(run: Run) -> None:
    """The exit code says which signal has ended it, if one has, as shells say it."""
    if run.status == "interrupted":
        name = (run.summary or {}).get("stopped_by") or signal.SIGINT.name
        raise typer.Exit(128 + signal.Signals[name])


@contextlib.contextmanager
def _last_words(run_dir: Path) -> Iterator[None]:
    """A signal while loading, or a second one while training, ends with one line on what there is to go on with.

    An import that is interrupted may end as an ImportError, since packages catch what stops them; the signal is the better witness.
    """
    heard: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, ImportError) as error:
        if not heard and not isinstance(error, KeyboardInterrupt):
            raise
        typer.echo(_what_is_left(run_dir), err=True)
        raise typer.Exit(128 + getattr(error, "number", heard[0] if heard else signal.SIGINT)) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _what_is_left(run_dir: Path) -> str:
    from heron.run import Run

    if (run_dir / "run.json").is_file():
        run = Run(run_dir)
        saved = next((event["step"] for event in reversed(run.events()) if event["kind"] == "checkpoint"), 0)
        return f"Interrupted. Go on with: {run.resume_command} ({f'step {saved} is saved' if saved else 'no step is saved'})"
    return "Interrupted; nothing was trained yet."


def config_of(context: typer.Context, recipe: str | None, last: Mapping[str, Any]) -> Config:
    """The config that a command line asks for, `last` on top."""
    from heron.config import load_config

    source, overrides = words_of(context, recipe)
    return load_config(source, overrides, last)


def words_of(context: typer.Context, recipe: str | None) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """One recipe or file anywhere among `--section.key=value` and `--section.key value`, and these settings."""
    from heron.errors import ConfigError

    names, settings = _names_and_settings(context, recipe)
    if len(names) > 1:
        raise ConfigError(f"Give one recipe or file, not {len(names)}: {', '.join(names)}. Files lie on a recipe by `recipe = ...` inside.")
    return names[0] if names else None, settings


def _names_and_settings(context: typer.Context, first: str | None) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Words and settings of a command line, in whatever order; an option that is not known may have been taken for its first word."""
    from heron.config import parse_overrides
    from heron.errors import ConfigError

    queue = [*([] if first is None else [first]), *context.args]
    names: list[str] = []
    settings: list[str] = []
    while queue:
        word = queue.pop(0)
        if not word.startswith("-"):
            names.append(word)
        elif "." not in word.partition("=")[0]:
            raise ConfigError(_unknown_option(word.partition("=")[0], context))
        else:
            settings += [word] if "=" in word or not queue else [word, queue.pop(0)]
    return names, parse_overrides(settings)


def _unknown_option(given: str, context: typer.Context) -> str:
    """What to say of an option that there is not: the nearest option of the command, or the setting of that name."""
    from heron.config.layer import field_types, section_types

    sections = reversed(section_types())  # where two have the same key, the first one is meant
    meant = {f"--{key}": f"--{section}.{key}=VALUE" for section in sections for key in field_types(section)}
    meant |= {name: name for parameter in context.command.params for name in parameter.opts if name.startswith("--")}
    near = difflib.get_close_matches(given, meant, n=1, cutoff=0.6)
    hint = f"Did you mean {meant[near[0]]}?" if near else "Settings are given as --section.key=value; -h lists the options."
    return f"There is no option {given}. {hint}"
