"""A checkpoint is whole or it is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from naive import heron_gradient
from tinymodels import load_tiny, ragged_groups

from heron.config.schema import ObjectiveConfig, TrainConfig
from heron.errors import RunError
from heron.models import Policy
from heron.objective import AdaptiveEntropy, FixedEntropy
from heron.training.checkpoint import Checkpoints, TrainState, is_complete, load_state, restore_optimizer
from heron.training.optimizer import make_optimizer
from heron.training.update import clip_and_step


@pytest.fixture
def trained(tiny_folder: Callable[[str], Path]) -> tuple[Policy, torch.optim.Optimizer]:
    """An adapter after one optimizer step."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    optimizer = make_optimizer(policy.trainable(), TrainConfig(learning_rate=0.01))
    heron_gradient(policy, ragged_groups(3), ObjectiveConfig())
    clip_and_step(optimizer, max_grad_norm=1.0)
    return policy, optimizer


def test_state_and_moments_come_back(trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path) -> None:
    policy, optimizer = trained
    state = TrainState(step=3, policy_version=7, num_tokens=123, seconds=4.5)
    path = Checkpoints(tmp_path, keep=2).save(policy, optimizer, state)
    assert path.name == "step-000003"
    assert load_state(path) == state
    fresh = make_optimizer(policy.trainable(), TrainConfig())
    restore_optimizer(path, fresh, policy.device)
    for (_, weight), name in ((pair, key) for pair in policy.trainable() for key in ("exp_avg", "exp_avg_sq", "step")):
        assert torch.equal(fresh.state[weight][name], optimizer.state[weight][name])


@pytest.mark.parametrize("bonus", [
    FixedEntropy(coef=0.1), AdaptiveEntropy(coef=0.1), AdaptiveEntropy(coef=0.1 + 0.2, delta=1e-3, target=1 / 3, last=0.1 + 0.7, high=2.0),
])
def test_the_entropy_bonus_comes_back(
    trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path, bonus: FixedEntropy | AdaptiveEntropy
) -> None:
    """Prevents: a controller that comes back as another kind, rounded, or without its last entropy."""
    path = Checkpoints(tmp_path, keep=1).save(*trained, TrainState(step=1, entropy=bonus))
    assert load_state(path).entropy == bonus


def test_moments_of_another_model_are_refused(trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path) -> None:
    policy, optimizer = trained
    path = Checkpoints(tmp_path, keep=2).save(policy, optimizer, TrainState(step=1))
    other = make_optimizer([("w", torch.nn.Parameter(torch.zeros(2, 2)))], TrainConfig())
    with pytest.raises(RunError, match="does not fit"):
        restore_optimizer(path, other, policy.device)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda path: (path / "MANIFEST.json").unlink(),
    "torn manifest": lambda path: (path / "MANIFEST.json").write_text((path / "MANIFEST.json").read_text()[:-20]),
    "missing file": lambda path: (path / "optimizer.pt").unlink(),
    "short file": lambda path: (path / "optimizer.pt").write_bytes((path / "optimizer.pt").read_bytes()[:-1]),
    "flipped bit": lambda path: (path / "state.json").write_text((path / "state.json").read_text().replace("2", "3", 1)),
    "missing weights": lambda path: (path / "model" / "adapter_model.safetensors").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_passed_over(trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path, damage: str) -> None:
    """Prevents: going on from half a checkpoint, or refusing to go on although an older one is whole."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    first, second = (checkpoints.save(*trained, TrainState(step=step)) for step in (1, 2))
    assert checkpoints.latest() == second
    DAMAGES[damage](second)
    assert not is_complete(second)
    assert checkpoints.latest() == first


def test_leftovers_of_a_kill_are_no_checkpoint(trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path) -> None:
    """A kill while saving leaves a folder with a temporary name; it is ignored, and replaced by the next save of that step."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    (tmp_path / ".step-000002.partial" / "model").mkdir(parents=True)
    assert checkpoints.latest() is None
    saved = checkpoints.save(*trained, TrainState(step=2))
    assert checkpoints.latest() == saved
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_kill_while_saving_keeps_the_older_one(
    trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: the only good checkpoint deleted before its successor is whole."""
    policy, optimizer = trained
    checkpoints = Checkpoints(tmp_path, keep=1)
    first = checkpoints.save(policy, optimizer, TrainState(step=1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(policy, optimizer, TrainState(step=2))
    assert checkpoints.latest() == first


def test_keeps_the_newest(trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        checkpoints.save(*trained, TrainState(step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000010"]


@pytest.mark.parametrize("keep", [1, 2])
def test_saving_after_going_back_never_drops_the_good_ones(
    trained: tuple[Policy, torch.optim.Optimizer], tmp_path: Path, keep: int
) -> None:
    """A damaged newest checkpoint made the run go back; the next save must not be deleted in favour of the damaged one."""
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in (1, 3):
        saved = checkpoints.save(*trained, TrainState(step=step))
    DAMAGES["short file"](saved)
    again = checkpoints.save(*trained, TrainState(step=2))
    assert checkpoints.latest() == again


def test_no_folder_yet(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", keep=1).latest() is None
