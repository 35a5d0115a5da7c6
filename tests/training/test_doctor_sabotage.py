"""The doctor on real trainings of the default recipe: four that are sabotaged, whose cause it must name first, and one that is well.

The hard idea: one fault shows in several alerts, and which of them come is a matter of steps. Twenty are enough for four of the runs; where
tags alone are paid, fifty are needed until it is certain that the answers do not get better with the format. Each held for six seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import heron
from heron.config import load_config
from heron.run import diagnose
from heron.training.warmup import warm_start

pytestmark = pytest.mark.slow


def constant(completion: str) -> float:
    return 1.0


SABOTAGED: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "constant-reward": (20, {"rewards": [constant]}),
    "format-only": (56, {"rewards": ["format.follows_format"]}),
    "truncation": (20, {"rollout": {"max_completion_length": 12}}),
    "reward-collapse": (20, {"train": {"learning_rate": 2e-2}}),
}
"""The alert that must come first, the steps that it takes, and what is done to the recipe."""


@pytest.fixture(scope="session")
def train() -> Callable[..., heron.Run]:
    """Trains the default recipe with a small evaluation. The model that it starts from is built once, and kept in the cache folder."""
    warm_start(load_config("arithmetic"))

    def trained(folder: Path, steps: int, **changed: Any) -> heron.Run:
        settings = {"max_steps": steps, "save_steps": 0, **changed.pop("train", {})}
        return heron.train("arithmetic", run_dir=folder, quiet=True, train=settings, evaluation={"size": 32, "samples": 0}, **changed)

    return trained


@pytest.mark.parametrize("cause", SABOTAGED)
def test_the_cause_is_named_first(cause: str, train: Callable[..., heron.Run], tmp_path: Path) -> None:
    """Prevents: a user who mends what follows from the fault, and not the fault."""
    steps, changed = SABOTAGED[cause]
    run = train(tmp_path / "run", steps, **changed)
    found = diagnose(run)
    assert found and found[0].id == cause, [alert.id for alert in found]
    assert cause in [event["id"] for event in run.events("alert")], "it is said while the run goes on, too"


def test_a_run_that_is_well_hears_nothing(train: Callable[..., heron.Run], tmp_path: Path) -> None:
    """Prevents: a doctor that always finds something, and is not listened to."""
    run = train(tmp_path / "run", 24)
    assert diagnose(run) == () and run.events("alert") == []
    assert run.metrics()[-1]["reward"] > run.metrics()[0]["reward"], "it learnt, so there was something to be well"
