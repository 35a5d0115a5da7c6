"""`heron lesson [NAME]`: small experiments that show how reinforcement learning works, each over in seconds.

The one hard idea: a lesson is a verb of its own, so that its options, their limits and its help are those of the command line. The bare
verb lists them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from heron.errors import ConfigError

Seed = Annotated[int, typer.Option(min=0, help="What is drawn; the same seed, the same lesson.")]
GroupSize = Annotated[int, typer.Option(min=1, max=1024, help="Siblings that are compared in a step.")]

app = typer.Typer(help="Small experiments that show how reinforcement learning works. Without a name: list them.",
                  invoke_without_command=True)


@app.callback()
def lessons(context: typer.Context) -> None:
    """Small experiments that show how reinforcement learning works. Without a name: list them."""
    if context.invoked_subcommand is None:
        from heron.lessons.drawing import listing

        commands: dict[str, Any] = context.command.commands  # type: ignore[attr-defined]
        _print([listing({name: command.get_short_help_str(200) for name, command in commands.items()})])


@app.command()
def grid(
    steps: Annotated[int, typer.Option(min=1, max=5000, help="Groups of games to learn from.")] = 100,
    group_size: GroupSize = 8, seed: Seed = 0,
) -> None:
    """An agent learns a small game, told nothing but the score of each game."""
    from heron.lessons import grid as lesson

    _print(lesson.shown(lesson.learn(steps=steps, games=group_size, seed=seed)))


@app.command("sum")
def sums(
    answers: Annotated[str | None, typer.Option(help="Answers to score, with commas between them.")] = None,
    right: Annotated[str, typer.Option(help="The right answer, a number.")] = "4",
) -> None:
    """What reward functions pay for answers to "What is 2 + 2?"."""
    from heron.lessons import answers as lesson

    given = lesson.ANSWERS if answers is None else tuple(answer.strip() for answer in answers.split(","))
    _print(lesson.shown(given, right=right))


@app.command()
def group(
    rewards: Annotated[list[str] | None, typer.Option(help="Rewards of the siblings of one group, with commas between them. Give it "
                                                           "again for another group of the same batch.")] = None,
) -> None:
    """From rewards to advantages: every number on the way."""
    from heron.lessons import groups as lesson

    _print(lesson.shown([_numbers("--rewards", words) for words in rewards] if rewards else lesson.EXAMPLE))


@app.command()
def luck(
    probability: Annotated[str, typer.Option(help="Of the right answer, at the start, from 0 to 1. Several with commas between them: "
                                                  "a row for each.")] = "0.001",
    group_size: GroupSize = 8,
    steps: Annotated[int, typer.Option(min=1, max=100_000, help="Most groups to learn from.")] = 500,
    seed: Seed = 1,
) -> None:
    """How long until a rare right answer is found: by waiting, and by learning. Probability 0 is never found."""
    from heron.lessons import patience as lesson

    chances = _numbers("--probability", probability)
    if wrong := [chance for chance in chances if not 0 <= chance <= 1]:
        raise ConfigError(f"--probability must lie between 0 and 1, but it is {wrong[0]:g}.")
    _print(lesson.shown(chances, group_size=group_size, steps=steps, seed=seed))


@app.command()
def clip(
    loss: Annotated[str, typer.Option(help="A loss of docs/objective.md.")] = "grpo",
    epsilon: Annotated[float, typer.Option(min=0, help="How far a ratio may fall below 1, and rise above it.")] = 0.2,
    epsilon_high: Annotated[float | None, typer.Option(min=0, help="How far it may rise, where that differs.")] = None,
    delta: Annotated[float | None, typer.Option(min=0, help="The largest ratio where the advantage is negative.")] = None,
) -> None:
    """What the clip lets through, for better and for worse answers."""
    from heron.lessons import clip as lesson

    settings = {"epsilon": epsilon, "epsilon_high": epsilon_high, "delta": delta}
    _print(lesson.shown(loss, {name: value for name, value in settings.items() if value is not None}))


@app.command()
def kl(
    beta: Annotated[str, typer.Option(help="Weights of the KL, with commas between them.")] = "0,0.1,0.5,2",
    steps: Annotated[int, typer.Option(min=1, max=5000, help="Steps of gradient descent.")] = 200,
) -> None:
    """What beta does: the pull of a policy towards its start."""
    from heron.lessons import kl as lesson

    betas = _numbers("--beta", beta)
    if wrong := [value for value in betas if value < 0]:
        raise ConfigError(f"--beta must not be negative, but it is {wrong[0]:g}. 0 switches the KL off.")
    _print(lesson.shown(betas, steps=steps))


def _numbers(option: str, words: str) -> list[float]:
    """Finite numbers with commas between them."""
    try:
        found = [float(word) for word in words.split(",")]
    except ValueError:
        raise ConfigError(f"{option} takes numbers with commas between them, such as 4,-2,0.5, but it is {words!r}.") from None
    if not all(map(math.isfinite, found)):
        raise ConfigError(f"{option} takes finite numbers, but it is {words!r}.")
    return found


def _print(parts: Iterable[RenderableType]) -> None:
    console = Console()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
