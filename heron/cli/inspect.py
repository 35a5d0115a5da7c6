"""`heron recipes`, `heron watch`, `heron curve`, `heron report`, `heron ui`, `heron doctor`: look without loading a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def recipes() -> None:
    """List the recipes that ship with Heron."""
    from heron.cli.show import print_recipes
    from heron.config import recipes as shipped

    print_recipes(shipped())


def watch(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, alive or dead.")]) -> None:
    """Follow a run as it happens, from any terminal; then its before/after table."""
    from heron.run import Run, TerminalView, print_report
    from heron.run.watch import follow

    run = Run(run_dir)
    with TerminalView() as view:
        follow(run, view)
    print_report(run)


def curve(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, typer.Argument(help="The SVG file to write.")],
) -> None:
    """Draw a run's reward curve as a picture."""
    from heron.run import Run, reward_curve_svg

    _write(out, reward_curve_svg(Run(run_dir)).encode())


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file to write. Default: report.html in the run directory.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the reward curve as a PNG, too (needs the extra `report`).")] = None,
) -> None:
    """Write one page about a run that can be sent to anyone: the result in plain words, curves, answers, failures, settings."""
    from heron.run import Run
    from heron.run.handout import handout, reward_png

    run = Run(run_dir)
    page = out or run.path / "report.html"
    _write(page, handout(run).encode())
    if png is not None:
        _write(png, reward_png(run))


def ui(
    folder: Annotated[Path, typer.Argument(help="Folder of runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 7860,
) -> None:
    """Open a local web page on the runs of a folder."""
    from heron.dashboard import serve

    serve(folder, port=port, defaults=_default_settings)


def _default_settings() -> dict[str, Any]:
    """What a setting is that an earlier version did not know."""
    from heron.config import Config

    return Config(recipe="").as_dict()


def doctor(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run directory. Default: look at this machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what is wrong with this machine, or with a run."""
    from heron.cli.show_runs import print_diagnosis, print_machine
    from heron.run import Run, machine_report
    from heron.run.doctor import diagnosis
    from heron.run.flaws import flaws
    from heron.run.machine import as_json as machine_as_json

    if run_dir is None:
        facts = machine_report()
        return typer.echo(json.dumps(machine_as_json(facts), indent=2)) if as_json else print_machine(facts)
    run = Run(run_dir)
    if as_json:
        told = {"run": str(run.path), "status": run.status, "flaws": flaws(run), **diagnosis(run)}
        return typer.echo(json.dumps(told, indent=2))
    return print_diagnosis(run)


def _write(file: Path, content: bytes) -> None:
    from heron.errors import ConfigError

    try:
        file.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}. Name a file in a folder that exists.") from error
    typer.echo(f"wrote {file}")
