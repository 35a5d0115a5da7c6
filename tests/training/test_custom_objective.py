"""A loss and an advantage estimator of one's own, in a file of one's own, named in a recipe; and what the trainer has to know of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import difference, in_float64, naive_forward
from small_runs import counted, make_trainer, small_config

import heron
from heron.config import load_config
from heron.config.objective import LOSS_TYPES, ObjectiveConfig
from heron.errors import ConfigError
from heron.rollout import Collector
from heron.run import Run
from heron.training import updater as updater_module
from heron.training.assemble import assemble, reassemble
from heron.training.compiled import objective_of
from heron.training.probing import moves_without_advantage
from heron.types import Group

LOSS = '''"""Policy gradient with a quadratic leash to the old policy, over rows."""

from torch import Tensor

from heron.objective import LossInputs, Surrogate, register_loss


@register_loss(weights="row_mean")
def leashed(inputs: LossInputs, *, epsilon: float, leash: float = 1.5) -> Surrogate:
    """`epsilon` is a setting of the section `objective`; `leash` has a default, so it need not be one."""
    stretch = (inputs.log_ratio / epsilon).square()
    loss = -inputs.ratio * inputs.advantages + leash * stretch / 2
    return Surrogate(loss=loss, marks={"leash/stretch": stretch})


@register_loss(weights="tokens")
def plain(inputs: LossInputs) -> Tensor:
    return -inputs.ratio * inputs.advantages


def bare(inputs: LossInputs) -> Tensor:
    return inputs.ratio


@register_loss(weights="tokens")
def greedy(inputs: LossInputs, *, appetite: float) -> Tensor:
    return appetite * inputs.ratio


@register_loss(weights="tokens")
def summed(inputs: LossInputs) -> Tensor:
    return -(inputs.ratio * inputs.advantages).sum()


@register_loss(weights="tokens")
def renamed(inputs: LossInputs) -> Surrogate:
    return Surrogate(loss=-inputs.ratio * inputs.advantages, marks={"ratio": inputs.logprobs.exp()})
'''
ESTIMATOR = '''"""Sign of the difference from the group's mean."""

import torch

from heron.objective import Rewards, register_advantage


@register_advantage
def signs(rewards: Rewards) -> torch.Tensor:
    return rewards.centred(rewards.total).sign()


@register_advantage
def endless(rewards: Rewards) -> torch.Tensor:
    return rewards.total / 0


def bare(rewards: Rewards) -> torch.Tensor:
    return rewards.total
'''
REWARD = "def variety(completion):\n    return len(set(completion)) / 10\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    for name, text in {"losses.py": LOSS, "estimators.py": ESTIMATOR, "rewards.py": REWARD}.items():
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path / "mine"


@pytest.fixture
def recipe(folder: Path, tiny_folder: Callable[[str], Path]) -> Path:
    """Names the files as someone does who stands beside them."""
    (folder / "small.toml").write_text(
        f'recipe = "arithmetic"\n[model]\nname = "{tiny_folder("qwen3")}"\ndevice = "cpu"\n[data]\nlimit = 40\n'
        '[rewards]\nfunctions = ["rewards.py:variety"]\nweights = [1.0]\n'
        '[objective]\nloss_type = "losses.py:leashed"\nadvantage_estimator = "estimators.py:signs"\nepsilon = 0.5\nnum_iterations = 2\n'
        "[rollout]\nnum_generations = 4\nmax_completion_length = 8\n"
        "[train]\nmax_steps = 2\nprompts_per_step = 2\nsave_steps = 1\nlearning_rate = 0.01\n[evaluation]\nsize = 0\n"
    )
    return folder / "small.toml"


def test_both_are_named_in_a_recipe_and_trained_with(
    recipe: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: names that only work from one folder; a loss or an estimator that is loaded and not used."""
    monkeypatch.chdir(folder)
    run = heron.train(recipe, run_dir=tmp_path / "run", quiet=True)
    assert run.status == "finished"
    config = load_config(run.path / "config.toml")
    assert config.objective.loss_type == f"{folder}/losses.py:leashed"
    assert config.objective.advantage_estimator == f"{folder}/estimators.py:signs"
    assert len(run.metrics()) == 2 and all(record["leash/stretch"] > 0 for record in run.metrics())
    advantages = {row["advantage"] for step in run.rollout_steps() for row in run.rollouts(step)}
    assert advantages == {-1.0, 1.0} or advantages == {-1.0, 0.0, 1.0}


def test_a_run_is_resumed_with_them_from_another_folder(
    recipe: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    whole = heron.train(recipe, run_dir=tmp_path / "whole", quiet=True)
    trainer = assemble(load_config(recipe), tmp_path / "cut")
    trainer.step()
    trainer._save()
    trainer.run.finish("interrupted", {})
    monkeypatch.chdir(tmp_path)
    reassemble(tmp_path / "cut").train()
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (whole.path, tmp_path / "cut")]
    assert weights[0] == weights[1]


def test_its_gradient_is_what_its_file_says(
    folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both optimizer steps of a batch against the same formula in float64: the settings, the weights and the ratio are those it named."""
    settings = {"loss_type": f"{folder}/losses.py:leashed", "advantage_estimator": f"{folder}/estimators.py:signs", "epsilon": 0.5,
                "num_iterations": 2}
    trainer = make_trainer(small_config(tiny_folder("qwen3"), objective=settings), tmp_path / "run")
    groups: list[Group] = []
    old: list[torch.Tensor] = []
    errors: list[float] = []
    score, clip_and_step = Collector.score, updater_module.clip_and_step

    def scored(collector: Collector, rollouts: Any) -> list[Group]:
        groups.extend(score(collector, rollouts))
        return groups

    def compared(*arguments: Any, **given: Any) -> float:
        wide = in_float64(trainer.policy.model)
        seen = [logp for logp, _ in naive_forward(wide, groups)]
        old.extend(logp.detach() for logp in seen if len(old) < len(seen))
        rows = [
            (-(logp - before).exp() * rollout.advantage + 1.5 * ((logp - before) / 0.5) ** 2 / 2).mean()
            for logp, before, rollout in zip(seen, old, [r for group in groups for r in group.rollouts], strict=True)
        ]
        (sum(rows) / len(rows)).backward()
        theirs = {name: weight.grad for name, weight in wide.named_parameters() if weight.grad is not None}
        ours = {name: weight.grad for name, weight in trainer.policy.trainable() if weight.grad is not None}
        errors.append(difference(ours, theirs))
        return clip_and_step(*arguments, **given)

    monkeypatch.setattr(Collector, "score", scored)
    monkeypatch.setattr(updater_module, "clip_and_step", compared)
    trainer.step()
    assert {rollout.advantage for group in groups for rollout in group.rollouts} == {-1.0, 0.0, 1.0}, "the test needs idle rows"
    assert len(errors) == 2 and max(errors) < 1e-5


@pytest.mark.parametrize(("name", "moves"), [("leashed", True), ("plain", False)])
def test_a_term_without_advantage_keeps_idle_rows(
    folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, name: str, moves: bool
) -> None:
    """Prevents: rows that are dropped although a loss of one's own would move them; rows that are kept for nothing."""
    objective = {"loss_type": f"{folder}/losses.py:{name}"}
    assert moves_without_advantage(objective_of(ObjectiveConfig(**objective))) is moves
    trainer = make_trainer(small_config(tiny_folder("qwen3"), objective=objective), tmp_path / "run")
    with counted(trainer) as found:
        trainer.step()
    rollouts = [rollout for group in found.groups for rollout in group.rollouts]
    idle = sum(not rollout.advantage for rollout in rollouts)
    assert 0 < idle < len(rollouts)
    share = Run(trainer.run.path).metrics()[0]["frac_rollouts_trained"]
    assert share == pytest.approx(1.0 if moves else 1 - idle / len(rollouts))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("settings", [
    {}, {"off_policy_mask_threshold": 0.1}, {"top_entropy_quantile": 0.5}, {"importance_sampling_correction": "sequence_mask"},
])
def test_built_in_losses_move_nothing_without_advantage(loss_type: str, settings: dict[str, Any]) -> None:
    """Prevents: the saving of idle rows lost for a loss; or a KL that idle rows miss."""
    objective = {"loss_type": loss_type, "epsilon_high": 5.0 if loss_type == "cispo" else None, **settings}
    assert not moves_without_advantage(objective_of(ObjectiveConfig(**objective)))
    for estimator, corrected in (("k2", False), ("k3", False), ("k1", True), ("k3", True)):
        kl = {"beta": 0.1, "kl_estimator": estimator, "use_bias_correction_kl": corrected}
        assert moves_without_advantage(objective_of(ObjectiveConfig(**objective, **kl)))


BAD = {
    "losses.py:bare": ("loss_type", "Put @register_loss"), "losses.py:nothing": ("loss_type", "has no 'nothing'"),
    "losses.py:greedy": ("loss_type", "asks for 'appetite'"), "nowhere.py:loss": ("loss_type", "There is no file"),
    "estimators.py:bare": ("advantage_estimator", "Put @register_advantage"),
    "estimators.py:nothing": ("advantage_estimator", "has no 'nothing'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_before_anything_is_made(
    folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Prevents: a run directory, or minutes of sampling, for a loss that does not exist."""
    monkeypatch.chdir(folder)
    setting, words = BAD[name]
    with pytest.raises(ConfigError, match=words):
        make_trainer(small_config(tiny_folder("qwen3"), objective={setting: name}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("setting", "name", "words"), [
    ("loss_type", "losses.py:summed", "returned loss as"), ("loss_type", "losses.py:renamed", "marks ratio, which"),
    ("advantage_estimator", "estimators.py:endless", "endless returned inf"),
])
def test_what_they_return_is_looked_at(
    folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, name: str, words: str
) -> None:
    """Prevents: a scalar that is broadcast to every token, or an infinite advantage, in the weights; a check of the run on what a loss
    calls the ratio."""
    monkeypatch.chdir(folder)
    with pytest.raises((ConfigError, heron.errors.RewardError), match=words):
        make_trainer(small_config(tiny_folder("qwen3"), objective={setting: name}), tmp_path / "run").step()


OBJECTIVES_THAT_DO_NOT_FIT = [
    ({"loss_type": "cispo"}, "epsilon_high is the greatest ratio itself"),
    ({"loss_type": "vespo", "importance_sampling_level": "sequence"}, "importance_sampling_level must stay"),
    ({"beta": 0.1, "kl_estimator": "k1"}, "no gradient in expectation"),
    ({"importance_sampling_correction": "token_mask"}, "nothing to correct"),
    ({"use_adaptive_entropy": True, "entropy_coef": 2.0}, "entropy_coef must lie between"),
    ({"use_adaptive_entropy": True, "entropy_coef_min": 0.1}, "entropy_coef must lie between"),
]


@pytest.mark.parametrize(("objective", "words"), OBJECTIVES_THAT_DO_NOT_FIT)
def test_settings_that_do_not_fit_are_refused_before_anything_is_made(
    tiny_folder: Callable[[str], Path], tmp_path: Path, objective: dict[str, Any], words: str
) -> None:
    """Prevents: a run directory that is left behind, in which the corrected run then cannot be started."""
    with pytest.raises(ConfigError, match=words):
        make_trainer(small_config(tiny_folder("qwen3"), objective=objective), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_was_broken_since_is_found_before_the_run_is_opened_again(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a record that says the run is being trained, behind which nothing runs."""
    file = tmp_path / "losses.py"
    file.write_text(
        'from heron.objective import register_loss\n\n\n@register_loss(weights="tokens")\ndef mine(inputs):\n'
        "    return -inputs.ratio * inputs.advantages\n"
    )
    config = small_config(tiny_folder("qwen3"), objective={"loss_type": f"{file}:mine"})
    make_trainer(config, tmp_path / "run").run.close()
    before = (tmp_path / "run" / "run.json").read_text()
    file.write_text(file.read_text().replace("inputs.advantages", "inputs.nothing"))
    with pytest.raises(ConfigError, match="mine raised AttributeError"):
        reassemble(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == before
