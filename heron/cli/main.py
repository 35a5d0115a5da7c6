"""The command `heron`.

    heron train [RECIPE | FILE.toml] [--run-dir DIR] [--seed N] [--from RUN] [--section.key=value ...]
    heron warmup [RECIPE | FILE.toml] --out DIR [--section.key=value ...]
    heron check [RECIPE | FILE.toml] [--no-probe] [--json] [--section.key=value ...]
    heron resume RUN [--section.key=value ...]      heron eval RUN          heron chat RUN
    heron recipes           heron watch RUN         heron ui [FOLDER]   heron doctor [RUN] [--json]
    heron runs [FOLDER] [--json]                    heron runs show RUN heron runs diff A B
    heron report RUN [--out FILE.html] [--png FILE] heron curve RUN FILE.svg
    heron plan RECIPE       heron export RUN        heron serve RUN
    heron reward table RECIPE FILE.jsonl            heron reward test RECIPE    heron reward attack RECIPE
    heron migrate FILE.py|FILE.ipynb|FILE.yaml [--out FILE]
    heron sandbox status    heron sandbox selftest
    heron lesson            heron lesson NAME [--option value ...]

Exit codes: 0 done; 1 an error while running; 2 wrong usage or settings; 3 wrong data, or a check that refuses;
4 stopped by a guard; 130 interrupted and saved; 143 the same by SIGTERM.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from heron.cli import check, inspect, lesson, migrate, plan, reward, run, runs, sandbox, use, warmup
from heron.errors import HeronError


class Verbs(TyperGroup):
    """The verbs. Ctrl-C in one that says nothing about it itself still ends with a word; typer alone would end in silence."""

    def invoke(self, context: Any) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="heron", cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Train a language model to reason, by reinforcement learning with verifiable rewards.",
)

WITH_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command(context_settings=WITH_SETTINGS)(run.train)
app.command(context_settings=WITH_SETTINGS)(run.resume)
app.command(context_settings=WITH_SETTINGS)(warmup.warmup)
app.command(context_settings=WITH_SETTINGS)(check.check)
app.command(context_settings=WITH_SETTINGS)(plan.plan)
app.command("eval")(use.evaluate)
app.command()(use.chat)
app.command()(use.export)
app.command()(use.serve)
app.command()(migrate.migrate)
app.command()(inspect.recipes)
app.command()(inspect.watch)
app.command()(inspect.curve)
app.command()(inspect.report)
app.command()(inspect.ui)
app.command()(inspect.doctor)
app.add_typer(runs.app, name="runs")
app.add_typer(reward.app, name="reward")
app.add_typer(lesson.app, name="lesson")
app.add_typer(sandbox.app, name="sandbox")


def main() -> None:
    """Entry point: runs the command and turns our errors into a message and an exit code."""
    try:
        app()
    except HeronError as error:
        from heron.api import print_error

        print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
