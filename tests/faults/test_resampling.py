"""Groups without a signal replaced by groups of further prompts (dynamic sampling)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import counted, cut_after, flat, make_trainer, small_config, some_flat

from heron.errors import ConfigError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble
from heron.training.keeping.snapshot import load_about
from heron.training.trainer import Trainer

Make = Callable[..., Trainer]


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Make:
    def trainer(name: str = "run", *, rewards: Any = (some_flat,), rounds: int = 5, **sections: Any) -> Trainer:
        config = small_config(tiny_folder("qwen3"), rollout={"resample_zero_signal": rounds}, **sections)
        return make_trainer(config, tmp_path / name, rewards=rewards)

    return trainer


def prompts_of(run: Run, step: int) -> list[str]:
    return list(dict.fromkeys(row["prompt"] for row in run.rollouts(step)))


def test_a_step_is_filled_with_groups_that_teach(make: Make) -> None:
    """Prevents: groups that are sampled anew for the same prompt, and a step that trains on fewer groups than it says."""
    plain, trainer = make("plain", rounds=0), make()
    for each in (plain, trainer):
        each.step()
    before, record = Run(plain.run.path).metrics()[0], Run(trainer.run.path).metrics()[0]
    assert before["groups/with_signal"] < 1 and record["groups/with_signal"] == 1.0 and record["resampling/left"] == 0
    assert 1 <= record["resampling/rounds"] <= 5 and record["resampling/extra_groups"] >= 1
    assert trainer.state.prompts_begun == 4 + record["resampling/extra_groups"]
    assert record["num_tokens"] > sum(row["length"] for row in Run(trainer.run.path).rollouts(1)), "what was dropped was sampled too"
    kept = [prompt for prompt in prompts_of(Run(plain.run.path), 1) if prompt in prompts_of(Run(trainer.run.path), 1)]
    texts = [[row["text"] for row in Run(each.run.path).rollouts(1) if row["prompt"] in kept] for each in (plain, trainer)]
    assert kept and texts[0] == texts[1], "what has a signal stays as it was drawn"


def test_the_bound_holds(make: Make) -> None:
    """Prevents: a step that never ends, where nothing teaches anything; and work on what it cannot learn from."""
    trainer = make(rewards=(flat,), rounds=2)
    with counted(trainer) as found:
        trainer.step()
    record = Run(trainer.run.path).metrics()[0]
    assert (record["resampling/rounds"], record["resampling/extra_groups"], record["resampling/left"]) == (2, 8, 4)
    assert trainer.state.prompts_begun == 12 and found.training == [] and found.without_gradient == []
    assert record["resampling/reward_of_all"] == record["reward"] == 1.0


def test_no_prompt_comes_twice_in_an_epoch(make: Make) -> None:
    """Prevents: a cursor that goes back to where a step without resampling would stand."""
    trainer = make()
    for _ in range(3):
        trainer.step()
    seen = list(itertools.chain(*(prompts_of(Run(trainer.run.path), step) for step in (1, 2, 3))))
    assert len(seen) == len(set(seen)) == 12


def test_a_resumed_run_reads_on(make: Make, tmp_path: Path) -> None:
    """Prevents: prompts that were consumed and forgotten, after which a resumed run trains on others than the run without a pause."""
    settings = {"train": {"max_steps": 4, "save_steps": 2}}
    whole, cut = make("whole", **settings), make("cut", **settings)

    whole.train()
    cut_after(cut, 3)
    resumed = reassemble(tmp_path / "cut", rewards=resolve([some_flat]))
    assert resumed.state.step == 2 and resumed.state.prompts_begun > 8
    about = load_about(tmp_path / "cut" / "checkpoints" / "step-000002")
    assert about["data"]["prompts_consumed"] == resumed.state.prompts_begun, "a checkpoint says how far the data were used"
    resumed.train()
    assert resumed.state.prompts_begun == whole.state.prompts_begun
    for step in (3, 4):
        assert prompts_of(Run(tmp_path / "cut"), step) == prompts_of(Run(tmp_path / "whole"), step)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole.policy.trainable(), resumed.policy.trainable(), strict=True))


def test_advantages_are_of_the_groups_that_stay(make: Make) -> None:
    """Prevents: a spread over the batch that is that of groups which were dropped; the identity of advantages sees it."""
    trainer = make(objective={"scale_rewards": "batch"})
    trainer.step()
    assert Run(trainer.run.path).metrics()[0]["resampling/extra_groups"] >= 1


def test_it_is_refused_with_partial_tokens(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"resample_zero_signal must be 0 with rollout\.partial_tokens"):
        small_config(tiny_folder("qwen3"), rollout={"resample_zero_signal": 2, "partial_tokens": 5})
