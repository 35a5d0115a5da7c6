"""`heron reward`: a recipe's rewards without training.

`table` scores answers that are written down, `test` a right and a wrong answer to the first rows, `attack` texts that deserve nothing.

The one hard idea: it is the recipe's own rubric that scores (and its own judge that is asked), so what is seen here is what a training run
pays. Only what needs a tokenizer cannot be known: a function that asks for tokens is refused, not given none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heron.config import Config
    from heron.rewards import Rubric
    from heron.types import Prompt, Rollout

app = typer.Typer(help="Look at rewards without training.", no_args_is_help=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def table(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file.")],
    file: Annotated[Path, typer.Argument(help="Rows as the recipe's data has them, each with a column `completion`.")],
) -> None:
    """Score the completions of a file by a recipe's reward functions. Takes the same settings as `heron train`."""
    from heron.cli.show import print_scores
    from heron.rewards import said

    config, rubric = _asked_for(context, recipe)
    rollouts = _rollouts(file, config, rubric)
    rubric.check([rollout.prompt for rollout in rollouts])
    answers = [said(rollout.text, config.tags, rollout.prefilled) or rollout.text for rollout in rollouts]
    print_scores(rubric.names, rubric.weights, rubric.score(rollouts), answers)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows to try.")] = 3,
) -> None:
    """Score a right and a wrong answer to the first rows: the row's gold answer, if it has one, and "I do not know.", in the format."""
    from heron.cli.show import print_scores
    from heron.rewards.attack import right_reply, written, wrong_reply

    config, rubric = _asked_for(context, recipe)
    tried = [
        (kind, written(prompt, reply)) for prompt in _prompts(config, rubric, rows)
        for kind, reply in (("gold", right_reply(prompt, config.tags)), ("wrong", wrong_reply(config.tags))) if reply is not None
    ]
    print_scores(rubric.names, rubric.weights, rubric.score([rollout for _, rollout in tried]), [kind for kind, _ in tried])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def attack(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows to attack.")] = 20,
) -> None:
    """Try texts that deserve nothing on the rewards, before a model finds them. Exit code 3 if more than 5 % are paid as if right."""
    from heron.cli.show import print_attacks
    from heron.rewards import attack as attacking

    config, rubric = _asked_for(context, recipe)
    found = attacking.attack(rubric, _prompts(config, rubric, rows))
    print_attacks(found)
    if fooled := [one.name for one in found if one.is_fooled]:
        typer.echo(f"Refused: {', '.join(fooled)} paid more than {attacking.MOST_ACCEPTED:.0%} of the attacks as if they were right. "
                   "Training would find them. Take a stronger judge, add a check that needs no judge, or show the judge the row's "
                   "answer.", err=True)
        raise typer.Exit(3)


def _asked_for(context: typer.Context, recipe: str) -> tuple[Config, Rubric]:
    """The config of the command line, and its rubric, with a judge where it asks one."""
    from heron.cli.run import words_of
    from heron.config import load_config
    from heron.environments import make_environment, resolve_rewards
    from heron.rewards import Rubric, resolve_verifier
    from heron.rewards.judge.seat import seats

    source, given = words_of(context, recipe)
    config = load_config(source, given)
    environment = make_environment(config.environment, config.tags, verifier=resolve_verifier(config.evaluation.verifier))
    functions = resolve_rewards(config.rewards.functions, config.rewards.weights, environment, timeout=config.rewards.timeout)
    rubric = Rubric(functions, tags=config.tags, on_error=config.rewards.on_error)
    if seats(function.function for function in rubric.functions):
        from heron.training.judging import appoint_judge, start_of

        appoint_judge(rubric, config, start=lambda: start_of(config))
    return config, rubric


def _prompts(config: Config, rubric: Rubric, rows: int) -> Sequence[Prompt]:
    """The first rows of the training data."""
    from heron import data

    _refuse_tokens(rubric)
    prompts = data.load(config.data, config.tags, seed=config.train.seed, eval_size=0).train[:rows]
    rubric.check(prompts)
    return prompts


def _refuse_tokens(rubric: Rubric) -> None:
    """Nobody has sampled these answers."""
    from heron.errors import ConfigError

    for function in rubric.functions:
        if {"completion_ids", "truncated"} & {*function.required}:
            raise ConfigError(f"{function.name} asks for the tokens of an answer, which a written text has not. Name the others with "
                              '--rewards.functions=["...", "..."].')


def _rollouts(file: Path, config: Config, rubric: Rubric) -> Sequence[Rollout]:
    """The file's rows as answered prompts."""
    from heron.data.files import read_file
    from heron.data.rows import present, to_prompt
    from heron.errors import DataError
    from heron.rewards.attack import written

    _refuse_tokens(rubric)
    rows = list(read_file(file))
    if not rows:
        raise DataError(f"{file} has no rows. Each line must be a JSON object with a question and a completion.")
    return [
        replace(
            written(
                to_prompt(row, prompt_column=config.data.prompt_column, answer_column=config.data.answer_column),
                str(row.columns[present(row, "completion", "heron reward table")]),
            ),
            prefilled=str(row.columns.get("prefilled") or ""),
        )
        for row in rows
    ]
