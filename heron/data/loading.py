"""The prompts of a run: which rows are trained on, and which are held out.

The hard part is that the two must share no question. Held-out rows come from where the config says (`eval_dataset`),
else from the dataset's own evaluation split, else they are set aside from the training rows; whatever the training
rows then still share with them is taken out and counted. Held-out rows that are not set aside are the same for every
seed, so that runs can be compared.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heron.config.generated import is_generated
from heron.config.schema import DataConfig
from heron.data.generated import generated
from heron.data.idle import refuse_idle_eval_split, refuse_idle_settings, refuse_idle_split
from heron.data.rows import fill_tags, to_prompt, with_system_prompt
from heron.data.sources import Source, open_source
from heron.errors import DataError
from heron.types import Prompt, Tags

GENERATED_ROWS = 4096
"""Generated problems to train on, unless `data.limit` says another number."""

HELDOUT_SEED = 0
"""Generated held-out problems are drawn with this seed in every run."""

OnBad = Callable[[DataError], None]
"""Told of a row that cannot be used. If it returns, the row is left out."""


def refuse(error: DataError) -> None:
    """One row that cannot be used is one too many: a run must know what it trains on."""
    raise error


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Prompts to train on and prompts to evaluate with."""

    train: tuple[Prompt, ...]
    """In the dataset's order."""
    heldout: tuple[Prompt, ...]
    """None of their questions is in `train`. Empty if evaluation is switched off."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Training rows left out because they ask a held-out question, each with the held-out row that asks it."""
    until: int | None = None
    """Bytes of the training file that were read; None for all."""

    @property
    def dropped(self) -> int:
        """How many were left out."""
        return len(self.left_out)


def load(
    config: DataConfig, tags: Tags, *, seed: int, eval_size: int, on_bad: OnBad = refuse, until: int | None = None
) -> Dataset:
    """The prompts of a run, at most `eval_size` of them held out; a `DataError` if there is nothing to train on. `until` takes the first
    bytes of the dataset alone, a file that is being written."""
    refuse_idle_settings(config)
    source = _open(config.dataset, config.subset, until)
    train = _train(source, config, seed, on_bad)
    heldout = _heldout(source, config, eval_size, on_bad)
    if heldout is None:
        train, heldout = _set_aside(train, eval_size, seed)
    return dataclasses.replace(_with_system_prompts(_without_heldout(train, heldout), config, tags), until=until)


def _open(name: str, subset: str | None, until: int | None = None) -> Source | None:
    """None for generated problems."""
    return None if is_generated(name) else open_source(name, subset, until=until)


def _train(source: Source | None, config: DataConfig, seed: int, on_bad: OnBad) -> tuple[Prompt, ...]:
    if source is None:
        return tuple(generated(config.dataset, config.limit or GENERATED_ROWS, config, seed=seed, heldout=False))
    refuse_idle_split(config, source)
    return _read(source, config, config.split, on_bad, config.limit)


def _heldout(source: Source | None, config: DataConfig, size: int, on_bad: OnBad) -> tuple[Prompt, ...] | None:
    """The held-out rows that the config or the dataset provides; None if they must be set aside."""
    if size == 0:
        return ()
    given = source if config.eval_dataset is None else _open(config.eval_dataset, None)
    refuse_idle_eval_split(config, given)
    if given is None:
        return tuple(generated(config.eval_dataset or config.dataset, size, config, seed=HELDOUT_SEED, heldout=True))
    if given is source and (config.eval_split == config.split or not given.has(config.eval_split)):
        return None
    return _spread(_read(given, config, config.eval_split, on_bad), size)


def _read(source: Source, config: DataConfig, split: str, on_bad: OnBad, limit: int | None = None) -> tuple[Prompt, ...]:
    prompts = []
    for row in source.each(split, limit):
        try:
            if isinstance(row, DataError):
                raise row
            prompts.append(to_prompt(row, prompt_column=config.prompt_column, answer_column=config.answer_column))
        except DataError as error:
            on_bad(error)
    return tuple(prompts)


def _spread(prompts: Sequence[Prompt], size: int) -> tuple[Prompt, ...]:
    """At most `size` prompts, evenly spaced: no draw is needed, and a sorted file does no harm."""
    count = min(size, len(prompts))
    return tuple(prompts[index * len(prompts) // count] for index in range(count))


def _set_aside(prompts: Sequence[Prompt], size: int, seed: int) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """The prompts that remain, and those that are held out: at most `size`, and at most a fifth of the rows."""
    count = min(size, len(prompts) // 5)
    if count == 0:
        raise DataError(
            f"The dataset has {len(prompts)} rows, too few to hold out a fifth of them for the evaluation. "
            "Give held-out rows with data.eval_dataset, or switch the evaluation off with evaluation.size=0."
        )
    first_asking = {question(prompt): prompt.id for prompt in reversed(prompts)}
    questions = sorted(first_asking)
    drawn = random.Random(f"held out with seed {seed}").sample(questions, min(count, len(questions)))
    ids = {first_asking[question] for question in drawn}
    return (
        tuple(prompt for prompt in prompts if prompt.id not in ids),
        tuple(prompt for prompt in prompts if prompt.id in ids),
    )


def _without_heldout(train: Sequence[Prompt], heldout: tuple[Prompt, ...]) -> Dataset:
    asked = {question(prompt): prompt.id for prompt in heldout}
    kept = tuple(prompt for prompt in train if question(prompt) not in asked)
    if not kept:
        raise DataError(
            f"No row is left to train on: the questions of all {len(train)} rows are also held out. "
            "Give other rows as data.dataset or data.eval_dataset, or switch the evaluation off with evaluation.size=0."
        )
    left_out = tuple((prompt.id, asked[question(prompt)]) for prompt in train if question(prompt) in asked)
    return Dataset(train=kept, heldout=heldout, left_out=left_out)


def question(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """What a prompt asks: its whole conversation but for system messages and white space at the ends."""
    return tuple(
        (message["role"], message["content"].strip()) for message in prompt.messages if message["role"] != "system"
    )


def _with_system_prompts(dataset: Dataset, config: DataConfig, tags: Tags) -> Dataset:
    if config.system_prompt is None:
        return dataset
    text = fill_tags(config.system_prompt, tags)
    return dataclasses.replace(
        dataset,
        train=tuple(with_system_prompt(prompt, text) for prompt in dataset.train),
        heldout=tuple(with_system_prompt(prompt, text) for prompt in dataset.heldout),
    )
