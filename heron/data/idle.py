"""Refuses settings of the data that could do nothing.

The idea: who writes a setting means something by it. So each that differs from its default must have a reader: a split
needs a dataset that is divided, a column one whose rows are read, `digits` one that is generated. What is left out:
where the evaluation is switched off, its settings wait for it to be switched on. Subsets are checked by the source.
"""

from __future__ import annotations

import dataclasses

from heron.config.generated import ARITHMETIC, is_generated, is_task
from heron.config.schema import DataConfig
from heron.data.sources import Source
from heron.errors import ConfigError


def refuse_idle_settings(config: DataConfig) -> None:
    """What can be said before any dataset is opened: settings for rows that are read, and for those that are generated."""
    both = {config.dataset, config.eval_dataset or config.dataset}
    if is_generated(config.dataset):
        _refuse(config, ("subset", "split"), f"{config.dataset} is generated and has neither subsets nor splits")
    if all(is_generated(name) for name in both):
        _refuse(config, ("prompt_column", "answer_column"), f"{config.dataset} is generated, so no columns are read")
    if ARITHMETIC not in both:
        _refuse(config, ("digits",), f"no additions are generated: data.dataset is {config.dataset!r}, not {ARITHMETIC!r}")
    if not any(is_task(name) for name in both):
        _refuse(config, ("difficulty", "curriculum"), f"no task is generated: data.dataset is {config.dataset!r}, not 'tasks.NAME'")


def refuse_idle_split(config: DataConfig, source: Source) -> None:
    """A training split of a dataset that is not divided."""
    if not source.is_divided:
        _refuse(config, ("split",), f"{source.name} is not divided into splits")


def refuse_idle_eval_split(config: DataConfig, source: Source | None) -> None:
    """An evaluation split of a dataset (None: a generated one) that is not divided, or does not have it."""
    if source is None or not source.is_divided:
        _refuse(config, ("eval_split",), f"{source.name if source else 'a generated dataset'} is not divided into splits")
    elif not source.has(config.eval_split) and _differs(config, "eval_split"):
        raise source.lacks(config.eval_split)


def _refuse(config: DataConfig, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if _differs(config, name):
            raise ConfigError(f"data.{name} is {getattr(config, name)!r}, but {reason}, so it would do nothing. Leave it out.")


def _differs(config: DataConfig, name: str) -> bool:
    """Whether the setting is other than its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return bool(getattr(config, name) != defaults[name])
