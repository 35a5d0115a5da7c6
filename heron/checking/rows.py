"""The rows of a recipe: read to the end, whatever is wrong with some of them.

The one hard idea: training stops at the first row that cannot be used, a check goes on and names all of them, with their lines. What is
read is what a run would read (`data.load`), so the counts are a run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from heron import data
from heron.checking.findings import Finding, Level, RowCounts, listed
from heron.config import Config
from heron.data.loading import question
from heron.environments import Environment
from heron.errors import DataError
from heron.rewards import Rubric, Verifier, check_reference
from heron.types import Prompt

MANY = 0.05
"""Share of the training rows from which on duplicates are worth a warning."""


def read_rows(config: Config, *, question_is_all: bool = True) -> tuple[data.Dataset | None, RowCounts | None, list[Finding]]:
    """The rows that can be used; nothing if no run could be made of them.

    `question_is_all`: rows that ask the same are the same. Not so in a game, whose rows hide what is to be found.
    """
    bad: list[str] = []
    try:
        dataset = data.load(
            config.data, config.tags, seed=config.train.seed, eval_size=config.evaluation.size, on_bad=lambda error: bad.append(str(error))
        )
    except DataError as error:  # boundary: what spoils the whole dataset is a finding, beside the rows that were met before
        return None, None, [*_unusable(bad, None), Finding(level=Level.ERROR, topic="rows", text=str(error))]
    repeated = list(_repeated(dataset.train)) if question_is_all else []
    counts = RowCounts(
        train=len(dataset.train), heldout=len(dataset.heldout), unusable=len(bad), left_out=dataset.dropped, duplicates=len(repeated),
    )
    return dataset, counts, [*_unusable(bad, counts), *_overlap(dataset), *_duplicates(repeated, counts)]


def unscorable(
    dataset: data.Dataset, rubric: Rubric, environment: Environment, verifier: Verifier
) -> tuple[set[str], list[Finding]]:
    """Ids of the rows that a reward function, the environment or the verifier cannot work with, and the findings."""
    prompts = (*dataset.train, *dataset.heldout)

    def can_score(prompt: Prompt) -> None:
        rubric.check([prompt])
        environment.start(prompt)

    rewards = dict(_failing(prompts, can_score))
    with_answer = [
        prompt for prompt in dataset.heldout
        if environment.uses_verifier and prompt.answer is not None and prompt.id not in rewards
    ]
    held_out = dict(_failing(with_answer, lambda prompt: check_reference(verifier, prompt)))
    found = []
    if rewards:
        found.append(Finding(
            level=Level.ERROR, topic="answers", text=f"{listed(len(rewards), 'row', len(prompts))} cannot be scored; training would stop "
            "at the first of them.", advice="Mend or remove these rows, or name another column or reward function.",
            rows=tuple(rewards.values()),
        ))
    if held_out:
        found.append(Finding(
            level=Level.ERROR, topic="answers",
            text=f"{listed(len(held_out), 'held-out row', len(dataset.heldout))} cannot be judged by evaluation.verifier.",
            advice="Choose another verifier, such as exact, or evaluation.size=0 for none.", rows=tuple(held_out.values()),
        ))
    return rewards.keys() | held_out.keys(), found


def _failing(prompts: Sequence[Prompt], check: Callable[[Prompt], object]) -> Iterator[tuple[str, str]]:
    """Ids of the prompts that do not pass, with the reason."""
    for prompt in prompts:
        try:
            check(prompt)
        except DataError as error:
            yield prompt.id, str(error)


def _unusable(bad: Sequence[str], counts: RowCounts | None) -> list[Finding]:
    if not bad:
        return []
    total = len(bad) if counts is None else len(bad) + counts.train + counts.heldout + counts.left_out
    return [Finding(
        level=Level.ERROR, topic="rows", text=f"{listed(len(bad), 'row', total)} cannot be used; training would stop at the first of them.",
        advice="Mend or remove these rows.", rows=tuple(bad),
    )]


def _overlap(dataset: data.Dataset) -> list[Finding]:
    if not dataset.left_out:
        return []
    return [Finding(
        level=Level.NOTE, topic="rows", text=f"{len(dataset.left_out)} training rows ask a held-out question and are left out.",
        rows=tuple(f"{row} asks what {held_out} asks" for row, held_out in dataset.left_out),
    )]


def _repeated(prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Prompt]]:
    """Rows that ask what an earlier one asks, each with that one."""
    first: dict[tuple[tuple[str, str], ...], Prompt] = {}
    for prompt in prompts:
        earlier = first.setdefault(question(prompt), prompt)
        if earlier is not prompt:
            yield prompt, earlier


def _duplicates(repeated: Sequence[tuple[Prompt, Prompt]], counts: RowCounts) -> list[Finding]:
    differing = [(later, earlier) for later, earlier in repeated if later.answer != earlier.answer]
    found = []
    if repeated:
        found.append(Finding(
            level=Level.WARNING if len(repeated) > MANY * counts.train else Level.NOTE, topic="rows",
            text=f"{listed(len(repeated), 'training row', counts.train)} ask what an earlier row asks, and are trained on all the same.",
            advice="Remove them, unless they are meant to count more than once.",
            rows=tuple(f"{later.id} asks what {earlier.id} asks" for later, earlier in repeated),
        ))
    if differing:
        found.append(Finding(
            level=Level.WARNING, topic="answers", text=f"{len(differing)} rows ask what an earlier row asks, with another answer.",
            advice="One of the two is wrong: the same reply would be paid in one row and not in the other.",
            rows=tuple(f"{later.id}: {later.answer!r:.60}, but {earlier.id}: {earlier.answer!r:.60}" for later, earlier in differing),
        ))
    return found
