"""Make a config independent of the folder that a run was started in, so that the run can be resumed and evaluated from anywhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from heron.config import Config


def anchored(config: Config) -> Config:
    """The config with every path that exists made absolute: datasets, the adapter to start from, the judge's folder and key, and the
    files of rewards, verifier, loss and advantages."""
    data = dataclasses.replace(
        config.data, dataset=_absolute(config.data.dataset),
        eval_dataset=None if config.data.eval_dataset is None else _absolute(config.data.eval_dataset),
    )
    rewards = dataclasses.replace(config.rewards, functions=tuple(_absolute_file(name) for name in config.rewards.functions))
    evaluation = dataclasses.replace(config.evaluation, verifier=_absolute_file(config.evaluation.verifier))
    objective = dataclasses.replace(
        config.objective, loss_type=_absolute_file(config.objective.loss_type),
        advantage_estimator=_absolute_file(config.objective.advantage_estimator),
    )
    warmup = config.warmup
    if warmup.dataset is not None:
        warmup = dataclasses.replace(warmup, dataset=_absolute(warmup.dataset))
    model = config.model
    if model.adapter is not None:
        model = dataclasses.replace(model, adapter=_absolute(model.adapter))
    judge = config.judge
    if judge.key_file is not None:
        judge = dataclasses.replace(judge, key_file=_absolute(judge.key_file))
    if judge.takes_memory:
        judge = dataclasses.replace(judge, name=_absolute(str(judge.name)))
    return dataclasses.replace(
        config, model=model, data=data, warmup=warmup, rewards=rewards, judge=judge, evaluation=evaluation, objective=objective,
    )


def _absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _absolute_file(name: str) -> str:
    """`rewards.py:correct`, `rewards.py`, `grader.json`, `criteria.toml`, or one of them `@task`, with the file made absolute; built-in
    names stay."""
    found = re.fullmatch(r"(.+\.(?:py|json|toml))([:@].*)?", name)
    return name if found is None else f"{_absolute(found[1])}{found[2] or ''}"
