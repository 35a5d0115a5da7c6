"""An evaluation in the middle of a run that a reward breaks is measured when the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import make_trainer, small_config

from heron.errors import RewardError
from heron.rewards import resolve
from heron.training.assemble import reassemble


def test_it_is_not_lost(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: a hole in the curve of held-out accuracy, for the next step is all that a resumed run used to ask for."""
    broken = True

    def score(completion: str) -> float:
        if broken and any(name == "before" for name in trainer.evaluations) and trainer.state.step == 2:
            raise ValueError("the judge is down")
        return float(len(completion))

    config = small_config(
        tiny_folder("qwen3"), train={"max_steps": 3}, evaluation={"size": 2, "samples": 0, "steps": 2}
    )
    trainer = make_trainer(config, tmp_path / "run", rewards=[score])
    with pytest.raises(RewardError):
        trainer.train()
    assert "step-000002" not in trainer.evaluations
    broken = False
    again = reassemble(tmp_path / "run", rewards=resolve([score]))
    again.train()
    assert set(again.evaluations) == {"before", "step-000002", "after"}
