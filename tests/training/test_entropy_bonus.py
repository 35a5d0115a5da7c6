"""The adaptive entropy bonus and the top-entropy mask, through the trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import Textbook, difference
from small_runs import Engine, flat, make_trainer, remember, small_config, use_engine

from heron.errors import ConfigError
from heron.objective import AdaptiveEntropy
from heron.rollout import Collector
from heron.run import Run
from heron.training import updater as updater_module
from heron.training.trainer import Trainer
from heron.types import FinishReason, Group, Rollout

ABOVE, BELOW = 0.0, 100.0
"""Targets that every entropy is above, and below."""
Make = Callable[..., Trainer]


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Make:
    runs = itertools.count()

    def trainer(rewards: Any = None, **objective: Any) -> Trainer:
        config = small_config(tiny_folder("qwen3"), objective=objective)
        return make_trainer(config, tmp_path / str(next(runs)), **({} if rewards is None else {"rewards": rewards}))

    return trainer


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The coefficient of every micro-batch that is trained on."""
    seen: list[float] = []
    accumulate = updater_module.accumulate

    def watched(*arguments: Any, entropy_coef: float, **settings: Any) -> Any:
        seen.append(entropy_coef)
        return accumulate(*arguments, entropy_coef=entropy_coef, **settings)

    monkeypatch.setattr(updater_module, "accumulate", watched)
    return seen


def adaptive(target: float, **settings: Any) -> dict[str, Any]:
    return {"use_adaptive_entropy": True, "entropy_coef": 0.01, "entropy_coef_delta": 0.003, "entropy_target": target, **settings}


@pytest.mark.parametrize("passes", [{}, {"num_iterations": 2}, {"num_minibatches": 2}, {"num_iterations": 2, "num_minibatches": 2}])
def test_it_moves_with_every_optimizer_step(make: Make, applied: list[float], passes: dict[str, int]) -> None:
    """Prevents: a coefficient that moves once for each batch of rollouts, or for each micro-batch."""
    trainer = make(**adaptive(BELOW, **passes))
    steps = passes.get("num_iterations", 1) * passes.get("num_minibatches", 1)
    for number in (1, 2):
        trainer.step()
        assert trainer.state.entropy.coef == pytest.approx(0.01 + 0.003 * steps * number)
        assert trainer.state.policy_version == steps * number
    expected = [0.0, *(0.01 + 0.003 * done for done in range(1, 2 * steps))]
    assert [value for value, _ in itertools.groupby(applied)] == pytest.approx(expected), "it is off in the very first step"
    logged = [record["entropy_coef"] for record in Run(trainer.run.path).metrics()]
    assert logged == pytest.approx([0.0, 0.01 + 0.003 * steps]), "what was applied when the batch began"


def test_it_is_off_above_the_target_and_shrinks_to_its_least(make: Make, applied: list[float]) -> None:
    """Prevents: a bonus that pushes an entropy up that is high already."""
    trainer = make(**adaptive(ABOVE, entropy_coef_min=0.006))
    for expected in (0.007, 0.006, 0.006):
        trainer.step()
        assert trainer.state.entropy.coef == pytest.approx(expected)
    assert applied and set(applied) == {0.0}


def test_it_stays_below_its_greatest(make: Make) -> None:
    trainer = make(**adaptive(BELOW, entropy_coef_max=0.014))
    for expected in (0.013, 0.014, 0.014):
        trainer.step()
        assert trainer.state.entropy.coef == pytest.approx(expected)


def test_it_is_steered_by_what_was_sampled(make: Make) -> None:
    """Prevents: an entropy of another distribution, of other tokens, or summed up instead of averaged."""
    trainer = make(**adaptive(BELOW, top_entropy_quantile=0.3))
    groups: list[Group] = []
    remember(trainer, groups)
    trainer.step()
    values = torch.tensor([v for group in groups for r in group.rollouts for v in r.turns[0].completion.entropies], dtype=torch.float64)
    upper = values[values >= values.quantile(0.7)]
    state = trainer.state.entropy
    assert isinstance(state, AdaptiveEntropy)
    assert state.last == pytest.approx(float(upper.mean())) and state.last > values.mean() + 0.05


def test_a_batch_that_trains_nothing_does_not_steer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a bonus that is switched on because no tokens are an entropy of 0."""
    trainer = make(**adaptive(2.0, mask_truncated_completions=True))
    before, score = trainer.state.entropy, Collector.score
    monkeypatch.setattr(Collector, "score", lambda collector, rollouts: score(collector, [[*map(cut, each)] for each in rollouts]))
    trainer.step()
    assert trainer.state.policy_version == 0
    assert trainer.state.entropy == before


def cut(rollout: Rollout) -> Rollout:
    (turn,) = rollout.turns
    return replace(rollout, turns=(replace(turn, completion=replace(turn.completion, finish_reason=FinishReason.LENGTH)),))


def test_the_bonus_reaches_the_weights(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rewards are equal, so the bonus alone moves the weights: by the gradient of the mean entropy, which then grows."""
    trainer = make(rewards=[flat], entropy_coef=0.1, num_iterations=4)
    groups: list[Group] = []
    gradients: list[float] = []
    entropies: list[float] = []
    score, clip_and_step = Collector.score, updater_module.clip_and_step

    def scored(collector: Collector, rollouts: Any) -> list[Group]:
        groups.extend(score(collector, rollouts))
        return groups

    def compared(*arguments: Any, **settings: Any) -> float:
        textbook = Textbook(trainer.policy, groups)
        ours = {name: weight.grad for name, weight in trainer.policy.trainable() if weight.grad is not None}
        gradients.append(difference(ours, textbook.gradient(trainer.config.objective)))
        entropies.append(float(torch.cat([entropy.detach() for _, entropy in textbook.seen]).mean()))
        return clip_and_step(*arguments, **settings)

    monkeypatch.setattr(Collector, "score", scored)
    monkeypatch.setattr(updater_module, "clip_and_step", compared)
    trainer.step()
    assert len(gradients) == 4 and max(gradients) < 1e-5
    assert entropies == sorted(entropies) and entropies[-1] > entropies[0] + 0.01


@pytest.mark.parametrize("settings", [{"top_entropy_quantile": 0.2}, adaptive(BELOW)])
def test_engine_without_entropies_is_an_error_that_says_so(make: Make, settings: dict[str, Any]) -> None:
    """Prevents: all tokens kept, or none, because nothing was reported."""
    trainer = make(**settings)
    use_engine(trainer, Engine(trainer.policy, entropies=False))
    with pytest.raises(ConfigError, match=r"top_entropy_quantile and use_adaptive_entropy need the entropy.*Leave them out"):
        trainer.step()


def test_engine_without_entropies_will_do_without_them(make: Make) -> None:
    """A fixed bonus takes the trainer's own entropy."""
    trainer = make(entropy_coef=0.1)
    use_engine(trainer, Engine(trainer.policy, entropies=False))
    trainer.step()
    assert trainer.state.policy_version == 1


def test_a_bonus_that_is_not_applied_costs_nothing_and_still_steers(make: Make, applied: list[float]) -> None:
    """Prevents: forward passes, and a step of momentum, for groups without a signal while the entropy is above its target; and a
    controller that never wakes up since no step was taken."""
    trainer = make(rewards=[flat], **adaptive(ABOVE))
    trainer.step()
    assert applied == [] and trainer.state.policy_version == 0
    assert isinstance(trainer.state.entropy, AdaptiveEntropy) and trainer.state.entropy.last is not None
    assert trainer.state.entropy.coef == pytest.approx(0.007)
