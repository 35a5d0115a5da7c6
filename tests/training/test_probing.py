"""What a config's functions are asked before a run begins: a bad one is an error there, an unusual one is understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heron.config.objective import ADVANTAGE_ESTIMATORS, LOSS_TYPES, ObjectiveConfig
from heron.errors import ConfigError
from heron.objective import LossInputs, Objective, Rewards, Surrogate, find_estimator, register_advantage, register_loss
from heron.training.compiled import advice_on, objective_of
from heron.training.probing import check_estimator, moves_without_advantage


def asked(function: Callable[..., Any]) -> bool:
    return moves_without_advantage(Objective(loss=register_loss(weights="tokens")(function), settings={"epsilon": 0.2}))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_built_in_losses_move_nothing_without_advantage(loss_type: str) -> None:
    settings = {"cispo": {"epsilon_high": 5.0}}.get(loss_type, {})
    assert not moves_without_advantage(objective_of(ObjectiveConfig(loss_type=loss_type, **settings)))


def only_unlikely(inputs: LossInputs) -> Tensor:
    return -inputs.ratio * inputs.advantages + 0.1 * (inputs.logprobs < -2) * inputs.logprobs


def only_on_policy(inputs: LossInputs) -> Tensor:
    return -inputs.ratio * inputs.advantages + 0.1 * (inputs.log_ratio == 0) * inputs.logprobs


def only_far_off(inputs: LossInputs) -> Tensor:
    return -inputs.ratio * inputs.advantages + torch.relu(inputs.log_ratio - 2)


@pytest.mark.parametrize("function", [only_unlikely, only_on_policy, only_far_off])
def test_a_term_that_acts_in_places_is_noticed(function: Callable[..., Any]) -> None:
    """Prevents: rollouts that are left out although the loss would move them."""
    assert asked(function)


def raises(inputs: LossInputs) -> Tensor:
    raise KeyError("boom")


def detached(inputs: LossInputs) -> Tensor:
    return (inputs.ratio * inputs.advantages).detach()


def normalised(inputs: LossInputs) -> Tensor:
    return -inputs.ratio * inputs.advantages / inputs.advantages.abs().max()


def marking(inputs: LossInputs) -> Surrogate:
    return Surrogate(loss=-inputs.ratio * inputs.advantages, marks={"reward": inputs.ratio})


@pytest.mark.parametrize(
    ("function", "words"),
    [(raises, "raises raised KeyError"), (detached, "no gradient"), (normalised, "not finite on rollouts without"), (marking, "reward")],
)
def test_what_could_not_be_trained_with_is_refused(function: Callable[..., Any], words: str) -> None:
    """Prevents: finding out after the first batch of rollouts, or never: a mark may overwrite the run's own reward."""
    with pytest.raises(ConfigError, match=words):
        asked(function)


@pytest.mark.parametrize("name", ADVANTAGE_ESTIMATORS)
def test_built_in_estimators_can_be_called(name: str) -> None:
    check_estimator(find_estimator(name), scale_rewards="group")


def test_an_estimator_that_raises_is_refused() -> None:
    @register_advantage
    def broken(rewards: Rewards) -> Tensor:
        raise IndexError("oops")

    with pytest.raises(ConfigError, match="broken raised IndexError"):
        check_estimator(broken, scale_rewards="group")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss_type": "reinforce", "epsilon": 0.3}, "epsilon = 0.3 has no effect with the loss reinforce"),
        ({"sapo_temperature_pos": 9.0}, "sapo_temperature_pos"),
        ({"kl_estimator": "k2"}, "while beta is 0"),
        ({"entropy_target": 3.0}, "without use_adaptive_entropy"),
        ({"importance_sampling_clip_max": 9.0}, "without an importance_sampling_correction"),
        ({"off_policy_mask_threshold": 0.1}, "one optimizer step"),
        ({"loss_type": "reinforce", "num_iterations": 4}, "biased"),
        ({"advantage_estimator": "max_rl"}, "luspo or dr_grpo"),
        ({"loss_type": "cispo", "epsilon_high": 1.2}, "ScaleRL"),
    ],
)
def test_what_does_nothing_or_surprises_is_said(settings: dict[str, Any], words: str) -> None:
    """Prevents: a setting that is believed to act and does not."""
    config = ObjectiveConfig(**settings)
    assert any(words in sentence for sentence in advice_on(config, objective_of(config)))


def test_the_defaults_need_no_advice() -> None:
    """A run that is always warned is not listened to."""
    assert advice_on(ObjectiveConfig(), objective_of(ObjectiveConfig())) == []
