"""`heron runs [FOLDER]`, `heron runs show RUN`, `heron runs diff A B`: the runs that there are, one of them, two side by side.

The one hard idea: the bare verb lists, so a word that is no verb below it is taken for a folder. A folder that is called `show` or
`diff` is written `./show`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, alive or dead.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


class ListsByDefault(TyperGroup):
    """Without a verb of its own, the group lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in that was left out."""
        asks_for_help = args[:1] in (["--help"], ["-h"])
        is_named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if is_named or asks_for_help else ["list", *args])


app = typer.Typer(
    cls=ListsByDefault, help="List the runs of a folder, show one, or compare two.", subcommand_metavar="[FOLDER | show RUN | diff A B]")


@app.command("list")
def listed(folder: Annotated[Path, typer.Argument(help="Folder of runs.")] = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs in a folder, newest first, with their accuracy before and after. The verb may be left out."""
    from heron.cli.show_runs import print_runs
    from heron.run import list_runs

    runs = list_runs(folder)
    if as_json:
        return _print_json([{"path": str(run.path), **_told(run)} for run in runs])
    return print_runs(folder, runs)


def _told(run: Any) -> dict[str, Any]:
    """A run of a list; the reason instead, where it cannot be read."""
    from heron.errors import RunError
    from heron.run.about import end_figures
    from heron.run.flaws import flaws
    from heron.run.snapshot import Snapshot

    run = Snapshot(run)
    try:
        about = {key: run.manifest.get(key) for key in ("id", "name", "created", "recipe", "model", "method")}
        return {**about, **end_figures(run), "flaws": flaws(run)}
    except (RunError, OSError) as error:  # boundary: one run of a list
        return {"status": "unreadable", "error": str(error)}


@app.command()
def show(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Show a run: what was trained on what, what it came to, what looked wrong."""
    from heron.cli.show_runs import print_run
    from heron.run import Run
    from heron.run.about import about, end_figures, versions
    from heron.run.doctor import diagnosis
    from heron.run.flaws import flaws

    run = Run(run_dir)
    if as_json:
        return _print_json({
            "about": about(run), "figures": end_figures(run), "evaluations": run.evaluations(), **diagnosis(run),
            "versions": versions(run), "settings": run.known_settings, "flaws": flaws(run),
        })
    return print_run(run)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run directory.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two runs: what was set otherwise first, then what they came to."""
    from heron.cli.show_runs import print_difference
    from heron.run import Run
    from heron.run.compare import came_to, set_otherwise

    one, other = Run(first), Run(second)
    if as_json:
        parts = {"set_otherwise": set_otherwise(one, other), "came_to": came_to(one, other)}
        return _print_json({name: {each.name: [each.first, each.second] for each in found} for name, found in parts.items()})
    return print_difference(one, other)


def _print_json(value: Any) -> None:
    from heron.run.records import to_json

    typer.echo(json.dumps(json.loads(to_json(value)), indent=2))
