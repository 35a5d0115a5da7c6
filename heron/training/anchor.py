"""Make a config independent of the folder that a run was started in, so that the run can be resumed and evaluated from anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from heron.config import Config


def anchored(config: Config) -> Config:
    """The config with every path that exists made absolute: datasets, and the files of
    rewards, verifier, loss and advantages."""
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
    return dataclasses.replace(config, data=data, rewards=rewards, evaluation=evaluation, objective=objective)


def _absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _absolute_file(name: str) -> str:
    """`rewards.py:correct` with its file made absolute; names of built-in functions are left alone."""
    path, colon, function = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    return f"{_absolute(path)}{colon}{function}" if path.endswith(".py") else name
