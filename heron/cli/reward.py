"""`heron reward table`: answers that are written down already, scored as a recipe would score them, each criterion in a column.

The one hard idea: it is the recipe's own rubric that scores, so what is seen here is what a training run pays. Only what needs a
tokenizer cannot be known: a function that asks for tokens is refused, not given none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heron.config import Config
    from heron.rewards import Rubric
    from heron.types import Rollout

app = typer.Typer(help="Look at rewards without training.", no_args_is_help=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def table(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe (see `heron recipes`) or a TOML file.")],
    file: Annotated[Path, typer.Argument(help="Rows as the recipe's data has them, each with a column `completion`.")],
) -> None:
    """Score the completions of a file by a recipe's reward functions. Takes the same settings as `heron train`."""
    from heron.cli.run import words_of
    from heron.cli.show import print_scores
    from heron.config import load_config
    from heron.rewards import Rubric, resolve, said

    source, given = words_of(context, recipe)
    config = load_config(source, given)
    functions = resolve(config.rewards.functions, config.rewards.weights, timeout=config.rewards.timeout)
    rubric = Rubric(functions, tags=config.tags, on_error=config.rewards.on_error)
    rollouts = _rollouts(file, config, rubric)
    rubric.check([rollout.prompt for rollout in rollouts])
    answers = [said(rollout.text, config.tags, rollout.prefilled) or rollout.text for rollout in rollouts]
    print_scores(rubric.names, rubric.weights, rubric.score(rollouts), answers)


def _rollouts(file: Path, config: Config, rubric: Rubric) -> Sequence[Rollout]:
    """The file's rows as answered prompts."""
    from heron.data.files import read_file
    from heron.data.rows import present, to_prompt
    from heron.errors import ConfigError, DataError
    from heron.types import Completion, FinishReason, Rollout, Turn

    for function in rubric.functions:
        if {"completion_ids", "truncated"} & {*function.required}:
            raise ConfigError(f"{function.name} asks for the tokens of an answer, which a file of texts has not. Name the others with "
                              '--rewards.functions=["...", "..."].')
    unknown = Turn(prompt_ids=(), completion=Completion(token_ids=(), logprobs=(), finish_reason=FinishReason.STOP, policy_version=0))
    rows = list(read_file(file))
    if not rows:
        raise DataError(f"{file} has no rows. Each line must be a JSON object with a question and a completion.")
    return [
        Rollout(
            prompt=to_prompt(row, prompt_column=config.data.prompt_column, answer_column=config.data.answer_column),
            turns=(unknown,), text=str(row.columns[present(row, "completion", "heron reward table")]),
            prefilled=str(row.columns.get("prefilled") or ""),
        )
        for row in rows
    ]
