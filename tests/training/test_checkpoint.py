"""A checkpoint is whole or it is not there."""

from __future__ import annotations

import copy
import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from naive import heron_gradient
from tinymodels import load_tiny, ragged_groups

from heron.config.schema import ObjectiveConfig, TrainConfig
from heron.errors import RunError, SaveError
from heron.models import Policy
from heron.objective import AdaptiveEntropy, FixedEntropy
from heron.run import Run, RunWriter
from heron.training.keeping import Draws, Keeper, Snapshot, TrainState, fault_of, find, load_state, restore_optimizer
from heron.training.keeping.best import best_step
from heron.training.keeping.writing import size_of
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


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunWriter]:
    """A run that nothing is recorded of but its checkpoints."""
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
    yield writer
    writer.close()


def saved(keeper: Keeper, trained: tuple[Policy, torch.optim.Optimizer], state: TrainState, *, best: int | None = None) -> Path:
    """A checkpoint, written to its end."""
    keeper.save(lambda: Snapshot.taken(*trained, state, Draws.taken()), best=best)
    keeper.settle()
    return keeper.folder / f"step-{state.step:06d}"


def names(keeper: Keeper) -> list[str]:
    return sorted(path.name for path in keeper.folder.iterdir())


def test_state_and_moments_come_back(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    policy, optimizer = trained
    state = TrainState(step=3, policy_version=7, num_tokens=123, seconds=4.5)
    path = saved(Keeper(run, keep=2), (policy, optimizer), state)
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
    trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter, bonus: FixedEntropy | AdaptiveEntropy
) -> None:
    """Prevents: a controller that comes back as another kind, rounded, or without its last entropy."""
    path = saved(Keeper(run, keep=1), trained, TrainState(step=1, entropy=bonus))
    assert load_state(path).entropy == bonus


def test_moments_of_another_model_are_refused(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    policy, optimizer = trained
    path = saved(Keeper(run, keep=2), (policy, optimizer), TrainState(step=1))
    other = make_optimizer([("w", torch.nn.Parameter(torch.zeros(2, 2)))], TrainConfig())
    with pytest.raises(RunError, match="does not fit"):
        restore_optimizer(path, other, policy.device)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda path: (path / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
    "torn manifest": (lambda path: os.truncate(path / "MANIFEST.json", 200), "MANIFEST.json cannot be read"),
    "empty manifest": (lambda path: os.truncate(path / "MANIFEST.json", 0), "MANIFEST.json cannot be read"),
    "missing file": (lambda path: (path / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "short file": (lambda path: os.truncate(path / "optimizer.pt", 1000), "optimizer.pt has 1000 bytes instead of"),
    "flipped bit": (lambda path: flip_a_bit(path / "state.json"), "the SHA-256 of state.json"),
    "flipped bit of the weights": (lambda path: flip_a_bit(path / "model" / "adapter_model.safetensors"), "the SHA-256 of model/adapter_"),
    "missing weights": (lambda path: (path / "model" / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_passed_over(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter, damage: str) -> None:
    """Prevents: going on from half a checkpoint, silence about it, or refusing to go on although an older one is whole."""
    keeper = Keeper(run, keep=3)
    first, second = (saved(keeper, trained, TrainState(step=step)) for step in (1, 2))
    assert find(keeper.folder).path == second and not find(keeper.folder).skipped
    do, words = DAMAGES[damage]
    do(second)
    found = find(keeper.folder)
    assert found.path == first and words in str(fault_of(second))
    assert words in found.skipped["step-000002"] and "step-000001 is used" in found.sentences[0]


def test_leftovers_of_a_kill_are_no_checkpoint(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    """A kill while saving leaves a folder with a temporary name; it is ignored, and replaced by the next save of that step."""
    keeper = Keeper(run, keep=3)
    (keeper.folder / ".step-000002.partial" / "model").mkdir(parents=True)
    found = find(keeper.folder)
    assert found.path is None and found.skipped == {".step-000002.partial": "it was not written to its end"}
    made = saved(keeper, trained, TrainState(step=2))
    assert find(keeper.folder).path == made
    assert names(keeper) == ["latest", "step-000002"]


def test_a_failed_write_keeps_the_older_one_and_is_told(
    trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: the only good checkpoint deleted before its successor is whole; a thread that fails in silence; half a folder that fills
    the disk; a failure that is never tried again."""
    keeper = Keeper(run, keep=1)
    first = saved(keeper, trained, TrainState(step=1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        keeper.save(lambda: Snapshot.taken(*trained, TrainState(step=2), Draws.taken()))
        keeper.wait()
    assert keeper.saved_step == 1 and find(keeper.folder).path == first and names(keeper) == ["latest", "step-000001"]
    [failure] = Run(run.path).events("checkpoint_failed")
    assert failure["step"] == 2 and "No space left" in failure["error"]
    assert "that of step 1 still holds" in Run(run.path).events("message")[-1]["text"]
    with pytest.raises(SaveError, match=r"step 2 could not be written.*heron resume"):
        keeper.settle()
    assert find(keeper.folder).path == first
    assert saved(keeper, trained, TrainState(step=2)) == find(keeper.folder).path and keeper.saved_step == 2


def test_too_little_room_is_known_before(
    trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a disk that is filled to its last byte by a checkpoint that cannot fit."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))  # type: ignore[attr-defined]
    keeper = Keeper(run, keep=1)
    with pytest.raises(SaveError, match=r"it needs \d+ MiB and 0 MiB are free where .*checkpoints is; there is none before it"):
        saved(keeper, trained, TrainState(step=1))
    assert not names(keeper)


@pytest.mark.parametrize("settings", [{}, {"method": "lora"}, {"method": "lora", "use_dora": True}])
def test_a_snapshot_is_the_model_at_that_moment(
    tiny_folder: Callable[[str], Path], run: RunWriter, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Prevents: weights and moments that move while they are written, tied weights that are written twice, other files than `save`'s."""
    policy = load_tiny(tiny_folder("qwen3"), **settings)
    optimizer = make_optimizer(policy.trainable(), TrainConfig(learning_rate=0.01))

    def train() -> None:
        heron_gradient(policy, ragged_groups(3), ObjectiveConfig())
        clip_and_step(optimizer, max_grad_norm=1.0)

    train()
    policy.save(tmp_path / "plain")
    moments = copy.deepcopy(optimizer.state_dict())
    snapshot = Snapshot.taken(policy, optimizer, TrainState(step=1), Draws.taken())
    train()
    keeper = Keeper(run, keep=1)
    keeper.save(lambda: snapshot)
    keeper.settle()
    path = keeper.folder / "step-000001"
    written, plain = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in (path / "model", tmp_path / "plain"))
    assert written == plain
    assert snapshot.num_bytes == pytest.approx(size_of(path), rel=0.2, abs=150_000)
    kept = torch.load(path / "optimizer.pt", weights_only=True)
    for number, state in moments["state"].items():
        assert all(torch.equal(state[name], kept["state"][number][name]) for name in state)


def test_random_generators_come_back(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    """Prevents: a reward that draws other numbers after a pause."""

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(numpy.random.normal()), float(torch.rand(()))]

    random.gauss(0, 1), numpy.random.normal()  # each keeps the second of a pair for the next time
    path = saved(Keeper(run, keep=1), trained, TrainState(step=1))
    expected = draw()
    assert draw() != expected
    draws = Draws.load(path)
    assert draws is not None
    draws.put()
    assert draw() == expected


def test_the_best_stays_beside_the_newest(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    """Prevents: the best model deleted because it is old; a pointer to a checkpoint that is gone."""
    keeper = Keeper(run, keep=1)
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2)):
        saved(keeper, trained, TrainState(step=step), best=best)
        assert (keeper.folder / "best").read_text() == f"step-{best:06d}\n"
    assert names(keeper) == ["best", "latest", "step-000002", "step-000004"]
    saved(keeper, trained, TrainState(step=5), best=5)
    assert names(keeper) == ["best", "latest", "step-000005"]


def test_the_best_step_is_the_first_of_equals() -> None:
    """Prevents: the start or an evaluation without the figure as the best, and a later one that is no better."""
    totals = {name: {"step": step, "accuracy": value} for name, step, value in (
        ("before", 0, 0.9), ("step-2", 2, 0.4), ("step-4", 4, 0.5), ("step-6", 6, 0.5), ("step-8", 8, None))}
    assert best_step(totals, "accuracy") == 4
    assert best_step(totals, "mean_reward") is None and best_step(totals, None) is None and best_step({}, "accuracy") is None


def test_keeps_the_newest(trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter) -> None:
    keeper = Keeper(run, keep=2)
    for step in (1, 2, 3, 10):
        saved(keeper, trained, TrainState(step=step))
    assert names(keeper) == ["latest", "step-000003", "step-000010"]


@pytest.mark.parametrize("keep", [1, 2])
def test_saving_after_going_back_never_drops_the_good_ones(
    trained: tuple[Policy, torch.optim.Optimizer], run: RunWriter, keep: int
) -> None:
    """A damaged newest checkpoint made the run go back; the next save must not be deleted in favour of the damaged one."""
    keeper = Keeper(run, keep=keep)
    for step in (1, 3):
        made = saved(keeper, trained, TrainState(step=step))
    DAMAGES["short file"][0](made)
    again = saved(keeper, trained, TrainState(step=2))
    assert find(keeper.folder).path == again


def test_no_folder_yet(tmp_path: Path) -> None:
    assert find(tmp_path / "none").path is None
