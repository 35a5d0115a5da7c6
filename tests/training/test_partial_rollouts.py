"""Groups that are carried from step to step: trained once, with the log-probs of the weights that sampled them, and resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import make_trainer, remember, small_config, some_flat

from heron.config import Config, load_config
from heron.errors import ConfigError, RewardError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble
from heron.training.trainer import Trainer
from heron.types import Group

LENGTH, PORTION = 12, 5


@pytest.fixture
def config(tiny_folder: Callable[[str], Path]) -> Config:
    return small_config(tiny_folder("qwen3"), rollout={"partial_tokens": PORTION}, train={"max_steps": 6, "save_steps": 1})


def short_ends(trainer: Trainer) -> None:
    """So many end tokens that completions are of all lengths."""
    trainer.policy.end_ids = frozenset(range(0, 265, 9))


def test_every_group_is_trained_once_and_nothing_is_forgotten(config: Config, tmp_path: Path) -> None:
    """Prevents: prompts that are lost or come twice, completions without end, and a step that is not what its metrics say."""
    trainer = make_trainer(config, tmp_path / "run")
    short_ends(trainer)
    groups: list[Group] = []
    remember(trainer, groups)
    carried = []
    for _ in range(6):
        trainer.step()
        carried.append(len(trainer.state.in_flight))
        assert all(len(c.token_ids) <= LENGTH for flight in trainer.state.in_flight for c in flight.said if c is not None)
    begun = [trainer.prompts[row].id for row in trainer.cursor.window(0, trainer.state.prompts_begun)]
    open_ids = [trainer.prompts[flight.row].id for flight in trainer.state.in_flight]
    assert sorted([group.prompt.id for group in groups] + open_ids) == sorted(begun)
    assert max(carried) > 0 and trainer.state.prompts_begun < 24
    metrics = Run(trainer.run.path).metrics()
    assert [row["groups/carried"] for row in metrics] == carried
    assert max(row.get("version_lag/max", 0) for row in metrics) >= 1, "some were said by older weights"
    said = sum(len(rollout.completion_ids) for group in groups for rollout in group.rollouts)
    said += sum(len(c.token_ids) for flight in trainer.state.in_flight for c in flight.said if c is not None)
    assert trainer.state.num_tokens == said


def test_a_step_without_a_complete_group_trains_nothing(config: Config, tmp_path: Path) -> None:
    """Prevents: an optimizer that steps on momentum, and metrics of rollouts that are not there."""
    trainer = make_trainer(config, tmp_path / "run")
    trainer.policy.end_ids = frozenset()
    before = [weight.clone() for _, weight in trainer.policy.trainable()]
    trainer.step()
    assert len(trainer.state.in_flight) == 4 and trainer.policy.version == 0
    trainer.step()
    assert all(torch.equal(old, new) for old, (_, new) in zip(before, trainer.policy.trainable(), strict=True))
    trainer.step()
    assert trainer.state.in_flight == [] and trainer.policy.version == 1
    first, _, third = Run(trainer.run.path).metrics()
    assert first["groups/carried"] == 4 and first["num_tokens"] == 4 * 4 * PORTION and "reward" not in first
    assert third["version_lag/max"] == 0, "no weights have moved in between"


def test_old_log_probs_are_those_of_the_weights_that_sampled(config: Config, tmp_path: Path) -> None:
    """Prevents: a ratio of 1 for tokens that older weights drew. One big step in between, and the ratio must show it."""
    trainer = make_trainer(replace(config, train=replace(config.train, learning_rate=0.05)), tmp_path / "run")
    short_ends(trainer)
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(6):
        trainer.step()
        (*_, row) = Run(trainer.run.path).metrics()
        if "ratio/max" in row:
            ratios[row["version_lag/max"] > 0].append(row["ratio/max"])
            assert ("sampling/k3" in row) == (row["version_lag/max"] == 0), "a gap to older weights is no gap between sampler and trainer"
    assert min(ratios[True]) > 1.01
    assert all(ratio == 1.0 for ratio in ratios[False]) and ratios[False]


def test_resumed_as_if_nothing_had_happened(config: Config, tmp_path: Path) -> None:
    """Prevents: carried groups that are lost or begun anew after a kill. Weights to the last bit."""
    weights = []
    for name, cuts in (("whole", ()), ("cut", (2, 3))):
        trainer = make_trainer(config, tmp_path / name)
        short_ends(trainer)
        for step in range(1, 6):
            trainer.step()
            if step in cuts:
                assert trainer.state.in_flight, "the test needs a checkpoint with groups in flight"
                trainer._save()
                trainer.keeper.settle()
                trainer.run.finish("interrupted", {})
                trainer = reassemble(tmp_path / name, rewards=resolve([some_flat]))
                short_ends(trainer)
        weights.append([weight.detach().clone() for _, weight in trainer.policy.trainable()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_reward_that_raises_leaves_the_carried_groups(config: Config, tmp_path: Path) -> None:
    """Prevents: a checkpoint, written when a reward fails, whose groups in flight are a step ahead of its weights."""
    calls: list[int] = []

    def fails_later(completions: list[Any], **_: Any) -> list[float]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("oops")
        return [float(len(str(each))) for each in completions]

    trainer = make_trainer(config, tmp_path / "run", rewards=[fails_later])
    short_ends(trainer)
    state: list[Any] = []
    with pytest.raises(RewardError):
        for _ in range(6):
            state[:] = [trainer.state.prompts_begun, list(trainer.state.in_flight)]
            trainer.step()
    assert state == [trainer.state.prompts_begun, trainer.state.in_flight] and state[1]


@pytest.mark.parametrize("sections", [
    {"rollout": {"partial_tokens": LENGTH}}, {"rollout": {"partial_tokens": -1}},
    {"rollout": {"partial_tokens": 4}, "objective": {"num_minibatches": 2}},
    {"rollout": {"partial_tokens": 4}, "objective": {"token_weights": "trl", "rows_per_micro_batch": 4}},
])
def test_what_does_not_go_together(tiny_folder: Callable[[str], Path], sections: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="partial_tokens"):
        small_config(tiny_folder("qwen3"), **sections)


def test_settings_are_written_and_read(config: Config, tmp_path: Path) -> None:
    trainer = make_trainer(config, tmp_path / "run")
    assert load_config(trainer.run.path / "config.toml").rollout.partial_tokens == PORTION
