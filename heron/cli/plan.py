"""`heron plan`: what a run will take on a device, whether that fits, and settings with which it does. Loads no weights.

The one hard idea: everything shown is a plan that was made; a proposed change is printed as the words that one would type for it, with
the peak of the plan made with them. Left out: how anything is counted (`heron.memory`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heron.cli.run import config_of, words_of
from heron.errors import ConfigError, RunError
from heron.run.text import number, short_duration

if TYPE_CHECKING:
    from heron.memory import Plan
    from heron.memory.case import Case, Settings
    from heron.memory.devices import Device


def plan(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe or a TOML file. Default: arithmetic.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Plan for this card: a size such as 16GB, or T4, RTX-4090, A100-80 ... "
                                                 "Default: the device that is here.")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of the longest prompt; no data is read.")] = 256,
    explain: Annotated[bool, typer.Option("--explain", help="Show how every figure was counted.")] = False,
    fit: Annotated[bool, typer.Option("--fit", help="Choose settings with which the run fits.")] = False,
    out: Annotated[Path | None, typer.Option(help="With --fit: write the settings to this TOML file.")] = None,
    guide: Annotated[bool, typer.Option("--guide", help="Print the tables of docs/memory.md instead.")] = False,
) -> None:
    """Say how much memory and time a run will take, before anything is loaded. Takes the same settings as `heron train`."""
    if guide:
        from heron.memory.guide import tables

        typer.echo("\n\n".join(tables().values()))
        return
    if out is not None and not fit:
        raise ConfigError("--out writes the settings that --fit chooses, but --fit is not given. Add it, or leave --out out.")
    case = _case(context, recipe, gpu, prompt_tokens)
    if fit:
        _fit(case, explain, out, words_of(context, recipe))
        return
    _show(case, explain)
    if not case.fits:
        _show_changes(case)


def _case(context: typer.Context, recipe: str | None, gpu: str | None, prompt_tokens: int) -> Case:
    from heron.memory.case import case_of
    from heron.training.cost import config_json

    config = config_of(context, recipe, {})
    model = config_json(config)
    return case_of(config, model, prompt_tokens=prompt_tokens, device=_device(gpu, config, model))


def _device(gpu: str | None, config: Any, model: Any) -> Device:
    if gpu is not None:
        from heron.memory.devices import find_device

        return find_device(gpu)
    from heron.memory.seconds import element_of
    from heron.training.present import device_present

    return device_present(config.model.device, element=element_of(config, model))


def _fit(case: Case, explain: bool, out: Path | None, words: tuple[str | None, dict[str, dict[str, Any]]]) -> None:
    from heron.memory import fitting, in_gib
    from heron.memory.case import spelled

    found = fitting.fit(case)
    if not found.fits:
        raise ConfigError(
            f"No settings were found with which this run fits {case.device.name}, of which {in_gib(case.device.memory)} can be used. The "
            f"smallest peak is {in_gib(found.plan.peak)}, with {spelled(found.settings)}. Take a smaller model, shorter answers "
            "(rollout.max_completion_length), or a larger device."
        )
    _show(found, explain)
    console = Console()
    console.print(Text(f"\nSettings to paste ({_cost(case, found)}):", style="bold"))
    console.print(Text(spelled(found.settings)), soft_wrap=True)
    console.print(Text(f"\n{_toml(_nested(found.settings))}"), soft_wrap=True)
    if out is not None:
        _write(out, *words, found.settings)
        console.print(Text(f"Written to {out}. Train with: heron train {out}"), soft_wrap=True)


def _show(case: Case, explain: bool) -> None:
    """The table, the verdict, the time."""
    console = Console()
    console.print(_table(case.plan))
    for line in _explained(case.plan) if explain else ():
        console.print(Text(line), soft_wrap=True)
    console.print(Text(case.verdict, style="bold"), soft_wrap=True)
    if case.config.judge.takes_memory:
        console.print(Text(f"Not counted: the judge {case.config.judge.name}, which is loaded beside the policy. Another `heron plan "
                           "--model.name=...` counts its weights; a judge behind judge.url takes no memory here."), soft_wrap=True)
    seconds = case.seconds
    console.print(Text(
        f"A step takes about {short_duration(seconds.total)}: {short_duration(seconds.sampling)} sampling, "
        f"{short_duration(seconds.training)} training, if every answer has its full length. An estimate; it may be off by a factor of two."
    ), soft_wrap=True)
    console.print(Text(f"{case.device.name}: {case.device.origin}.", style="dim"), soft_wrap=True)


def _explained(made: Plan) -> list[str]:
    """A formula, this run's numbers in it, and what that makes, for every row."""
    lines = []
    for row in made.rows:
        formula = f"{row.formula}\n    " if row.formula else ""
        lines.append(f"{row.name} ({row.phase}, {row.place})\n    {formula}{row.note}\n    = {row.bytes:,} bytes")
    return [*lines, ""]


def _table(made: Plan) -> Table:
    """A row for each part, and the peak of each phase; a column for each place."""
    places = dict.fromkeys((made.device, "host"))
    table = Table("part", "phase", box=SIMPLE_HEAD)
    for place in places:
        table.add_column(f"{place}, GiB", justify="right")
    table.add_column("how it was counted")
    for row in made.rows:
        table.add_row(row.name, row.phase, *(_gib(row.bytes) if row.place == place else "" for place in places), row.note)
    table.add_section()
    for phase in made.phases:
        sizes = (_gib(made.peak_of(phase, place)) for place in places)
        table.add_row("peak", phase, *sizes, "with what is always there", style="bold")
    return table


def _show_changes(case: Case) -> None:
    from heron.memory.fitting import cheapest_changes

    console = Console()
    changes = cheapest_changes(case)
    does = any(found.fits for found in changes)
    console.print(Text("\nIt would fit with" if does else "\nNo one or two changes make it fit; these come nearest:", style="bold"))
    for found in changes:
        console.print(Text(_change(case, found)), soft_wrap=True)
    console.print(Text("`heron plan --fit` with the same words chooses among all settings."), soft_wrap=True)


def _change(case: Case, found: Case) -> str:
    """What to type, and what comes of it."""
    from heron.memory import in_gib
    from heron.memory.case import spelled

    return (f"  {spelled(found.settings)}\n    {in_gib(found.plan.peak)} at the peak; a step takes "
            f"{found.seconds.total / case.seconds.total:.2f} times as long; {_cost(case, found)}")


def _cost(case: Case, found: Case) -> str:
    from heron.memory.changes import COSTS, cost_of

    return COSTS[cost_of(case, found.settings)]


def _gib(size: int) -> str:
    return number(size / 2**30, 3)


def _write(out: Path, source: str | None, overrides: dict[str, dict[str, Any]], settings: Settings) -> None:
    """A settings file that lies on what was given: on a recipe by its name, on a file by its text."""
    from heron.config.document import Document
    from heron.config.loading import DEFAULT_RECIPE

    if out.exists():
        raise RunError(f"{out} is there already. Choose another --out, or remove it.")
    is_file = source is not None and source.endswith(".toml")
    beneath = dict(Document.read(Path(str(source)).expanduser()).tables) if is_file else {"recipe": source or DEFAULT_RECIPE}
    try:
        out.write_text(_toml(_merged([beneath, overrides, _nested(settings)])), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}. Name a file in a folder that exists.") from error


def _merged(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def _nested(settings: Settings) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        tables.setdefault(section, {})[key] = value
    return tables


def _toml(tables: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(tables)
