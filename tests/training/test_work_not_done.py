"""What need not be computed is not: forward passes are counted in whole steps of the trainer, and what is left out changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from naive import Gradient, Textbook, difference
from small_runs import Engine, Forwards, counted, flat, make_trainer, small_config, use_engine

from heron.config.objective import ObjectiveConfig
from heron.rollout import Collector
from heron.training import updater as updater_module
from heron.training.trainer import Trainer
from heron.types import Group, Rollout

KL = {"beta": 0.1}
ONE_BATCH = {"micro_batch_tokens": 1 << 20}
Make = Callable[..., Trainer]


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Make:
    def trainer(objective: dict[str, Any] | None = None, *, rewards: Sequence[Any] | None = None, **sections: Any) -> Trainer:
        config = small_config(tiny_folder("qwen3"), objective=objective or {}, **sections)
        return make_trainer(config, tmp_path / "run", **({} if rewards is None else {"rewards": rewards}))

    return trainer


def step(trainer: Trainer) -> Forwards:
    with counted(trainer) as found:
        trainer.step()
    return found


def packed(groups: Sequence[Group]) -> int:
    """Tokens of the trees of the rollouts that have an advantage: every beginning once, without the last tokens."""
    beginnings = {
        (number, whole[:length])
        for number, group in enumerate(groups) for rollout in group.rollouts if rollout.advantage
        for whole in [(*rollout.turns[0].prompt_ids, *rollout.completion_ids)] for length in range(1, len(whole))
    }
    return len(beginnings)


def test_groups_without_a_signal_cost_nothing(make: Make) -> None:
    """Prevents: forward passes of rollouts whose gradient is 0, and extra passes for old log-probs of the policy that sampled."""
    found = step(make(train=ONE_BATCH))
    signals = [group.has_signal for group in found.groups]
    assert True in signals and False in signals, "the test needs both"
    assert found.training == [packed(found.groups)]
    assert found.without_gradient == found.reference == []
    assert found.sampling


def test_a_step_without_any_signal_forwards_nothing(make: Make) -> None:
    found = step(make(rewards=[flat]))
    assert found.sampling and not found.training + found.without_gradient + found.reference


def test_old_logprobs_cost_nothing_however_the_step_is_cut(make: Make) -> None:
    """Prevents: a pass for old log-probs as soon as there are several micro-batches."""
    found = step(make(train={"micro_batch_tokens": 90}))
    assert len(found.training) > 1 and max(found.training) <= 90
    assert found.without_gradient == []


@pytest.mark.parametrize("method", ["full", "lora"])
def test_without_beta_there_is_no_reference(make: Make, method: str) -> None:
    """Prevents: a copy of the weights, or forward passes, for a KL of weight 0."""
    trainer = make(model={"method": method, "lora_rank": 4})
    found = step(trainer)
    assert trainer.policy.reference is None
    assert found.training and found.without_gradient == []


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_reference_is_computed_once_however_many_passes(make: Make, method: str, iterations: int) -> None:
    """Prevents: the reference computed again for every pass; old log-probs computed at all."""
    found = step(make({**KL, "num_iterations": iterations}, model={"method": method, "lora_rank": 4}, train={"micro_batch_tokens": 90}))
    reference, other = (found.reference, found.without_gradient) if method == "full" else (found.without_gradient, found.reference)
    assert len(reference) > 1 and found.training == reference * iterations
    assert other == []


def test_minibatches_cost_nothing_extra_with_an_exact_engine(make: Make) -> None:
    """The later minibatches' old log-probs are what the sampler reported."""
    trainer = make({"num_minibatches": 2}, train=ONE_BATCH)
    found = step(trainer)
    assert found.training == [packed(found.groups[:2]), packed(found.groups[2:])]
    assert found.without_gradient == []
    assert trainer.state.policy_version == 2


@pytest.mark.parametrize("iterations", [1, 2])
def test_inexact_engine_costs_a_pass_for_later_minibatches_only(make: Make, iterations: int) -> None:
    """Prevents: old log-probs computed for minibatches that are trained on before the weights move, or once for every pass."""
    trainer = make({"num_minibatches": 2, "num_iterations": iterations}, train=ONE_BATCH)
    use_engine(trainer, Engine(trainer.policy, exact_logprobs=False))
    found = step(trainer)
    first, second = packed(found.groups[:2]), packed(found.groups[2:])
    assert first and second
    assert found.training == [first, second] * iterations
    assert found.without_gradient == [second]


@pytest.mark.parametrize("iterations", [1, 2])
def test_inexact_engine_without_minibatches_costs_nothing(make: Make, iterations: int) -> None:
    """The first pass itself knows the policy that it began with."""
    trainer = make({"num_iterations": iterations}, train=ONE_BATCH)
    use_engine(trainer, Engine(trainer.policy, exact_logprobs=False))
    found = step(trainer)
    assert found.training == [packed(found.groups)] * iterations
    assert found.without_gradient == []


@pytest.mark.parametrize("is_exact", [True, False])
def test_later_minibatches_have_the_textbooks_gradient(make: Make, monkeypatch: pytest.MonkeyPatch, is_exact: bool) -> None:
    """Prevents: a ratio that is 1 although the weights have moved since sampling; weights of tokens counted over all minibatches."""
    trainer = make(
        {"num_minibatches": 2, "loss_type": "dapo", "epsilon": 0.02, "beta": 0.1}, rewards=[different],
        train={"learning_rate": 0.02, "micro_batch_tokens": 90},
    )
    use_engine(trainer, Engine(trainer.policy, exact_logprobs=is_exact))
    groups: list[Group] = []
    errors: list[float] = []
    score, clip_and_step = Collector.score, updater_module.clip_and_step

    def scored(collector: Collector, rollouts: Sequence[Sequence[Rollout]]) -> list[Group]:
        groups.extend(score(collector, rollouts))
        return groups

    def compared(*arguments: Any, **settings: Any) -> float:
        number = len(errors)
        textbook = Textbook(trainer.policy, groups[2 * number : 2 * number + 2])
        ours: Gradient = {name: weight.grad for name, weight in trainer.policy.trainable() if weight.grad is not None}
        errors.append(difference(ours, textbook.gradient(trainer.config.objective, old_is_sampler=number > 0)))
        return clip_and_step(*arguments, **settings)

    monkeypatch.setattr(Collector, "score", scored)
    monkeypatch.setattr(updater_module, "clip_and_step", compared)
    trainer.step()
    assert len(errors) == 2 and max(errors) < 1e-5
    assert trainer.config.objective == ObjectiveConfig(num_minibatches=2, epsilon=0.02, beta=0.1)


def different(completion: str) -> float:
    return len(set(completion)) / 10
