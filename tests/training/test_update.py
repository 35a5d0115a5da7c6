"""The optimizer step around the gradient: clipping, guards, decay, learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from naive import heron_gradient
from tinymodels import load_tiny, ragged_groups
from torch import nn

from heron.config.schema import ObjectiveConfig, TrainConfig
from heron.errors import ConfigError, GuardStop
from heron.training.measures import Measures
from heron.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from heron.training.update import clip_and_step


def weight_with_gradient(gradient: list[float]) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(len(gradient)))
    weight.grad = torch.tensor(gradient)
    return weight


class TestClipAndStep:
    def test_norm_is_reported_before_clipping(self) -> None:
        """Prevents: a logged gradient norm that is never above the limit, which hides explosions."""
        weight = weight_with_gradient([3.0, 4.0])
        assert clip_and_step(torch.optim.SGD([weight], lr=1.0), max_grad_norm=1.0) == pytest.approx(5.0)
        assert weight.tolist() == pytest.approx([-0.6, -0.8], rel=1e-5)
        assert weight.grad is None

    def test_small_gradients_are_not_scaled_up(self) -> None:
        weight = weight_with_gradient([0.3, 0.4])
        clip_and_step(torch.optim.SGD([weight], lr=1.0), max_grad_norm=1.0)
        assert weight.tolist() == pytest.approx([-0.3, -0.4])

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_gradient_that_is_not_finite_stops_and_leaves_the_weights(self, bad: float) -> None:
        """Prevents: NaN in every weight after one bad step, found hours later."""
        weight, healthy = weight_with_gradient([1.0, bad]), weight_with_gradient([1.0])
        with pytest.raises(GuardStop, match="optimizer step was not taken"):
            clip_and_step(torch.optim.SGD([weight, healthy], lr=1.0), max_grad_norm=1.0)
        assert weight.tolist() == [0.0, 0.0]
        assert healthy.tolist() == [0.0]


class TestOptimizer:
    def test_matrices_decay_and_vectors_do_not(self, tiny_folder: Callable[[str], Path]) -> None:
        """Prevents: norms that are pulled to zero."""
        policy = load_tiny(tiny_folder("qwen3"))
        optimizer = make_optimizer(policy.trainable(), TrainConfig(weight_decay=0.1))
        decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
        assert len(decays) == len(policy.trainable())
        for name, weight in policy.trainable():
            assert decays[id(weight)] == (0.0 if "norm" in name or weight.dim() < 2 else 0.1), name

    def test_settings_reach_adam(self) -> None:
        weights = [("w", nn.Parameter(torch.zeros(2, 2)))]
        (group,) = make_optimizer(weights, TrainConfig(learning_rate=3e-4, adam_beta1=0.8, adam_beta2=0.95)).param_groups
        assert (group["lr"], group["betas"]) == (3e-4, (0.8, 0.95))

    def test_low_precision_weights_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"w.*float16"):
            make_optimizer([("w", nn.Parameter(torch.zeros(2, 2, dtype=torch.float16)))], TrainConfig())

    def test_adapter_only(self, tiny_folder: Callable[[str], Path]) -> None:
        """A frozen base takes no optimizer memory, and does not move."""
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
        frozen = {name: w.detach().clone() for name, w in policy.model.named_parameters() if not w.requires_grad}
        optimizer = make_optimizer(policy.trainable(), TrainConfig(learning_rate=0.1, weight_decay=0.1))
        heron_gradient(policy, ragged_groups(3), ObjectiveConfig())
        before = [weight.detach().clone() for _, weight in policy.trainable()]
        clip_and_step(optimizer, max_grad_norm=1.0)
        assert any(not torch.equal(a, b) for a, (_, b) in zip(before, policy.trainable(), strict=True))
        assert all(torch.equal(w, frozen[name]) for name, w in policy.model.named_parameters() if name in frozen)


class TestLearningRate:
    def rates(self, count: int, **settings: object) -> list[float]:
        config = TrainConfig(learning_rate=1.0, max_steps=count, **settings)  # type: ignore[arg-type]
        return [learning_rate(step, config) for step in range(1, count + 1)]

    def test_constant(self) -> None:
        assert self.rates(5) == [1.0] * 5

    def test_warm_up_starts_above_zero_and_reaches_the_peak(self) -> None:
        """Prevents: a first step with rate 0, and a peak that is never reached."""
        assert self.rates(8, warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0])

    def test_linear(self) -> None:
        assert self.rates(4, lr_scheduler_type="linear") == pytest.approx([1.0, 0.75, 0.5, 0.25])

    def test_cosine(self) -> None:
        assert self.rates(4, lr_scheduler_type="cosine") == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])

    @pytest.mark.parametrize("kind", ["linear", "cosine"])
    def test_warm_up_then_decay_peaks_once_and_stays_positive(self, kind: str) -> None:
        rates = self.rates(20, lr_scheduler_type=kind, warmup_steps=5)
        assert rates[5] == max(rates) == 1.0
        assert rates[:6] == sorted(rates[:6])
        assert rates[5:] == sorted(rates[5:], reverse=True)
        assert min(rates) > 0

    def test_warm_up_longer_than_the_run(self) -> None:
        assert self.rates(3, warmup_steps=10, lr_scheduler_type="linear") == pytest.approx([1 / 11, 2 / 11, 3 / 11])

    def test_is_set_in_every_group(self, tiny_folder: Callable[[str], Path]) -> None:
        """Prevents: norms that train at another rate than matrices."""
        optimizer = make_optimizer(load_tiny(tiny_folder("qwen3")).trainable(), TrainConfig())
        set_learning_rate(optimizer, 0.5)
        assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def test_a_gradient_of_zero_takes_no_step() -> None:
    """Prevents: momentum that moves the weights in a step in which nothing was learnt, as where an entropy bonus is not applied."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = make_optimizer([("w", weight)], TrainConfig(learning_rate=0.1, weight_decay=0.1))
    weight.grad = torch.ones(3)
    assert clip_and_step(optimizer, max_grad_norm=1.0) > 0
    moved = weight.detach().clone()
    assert not torch.equal(moved, torch.ones(3))
    weight.grad = torch.zeros(3)
    assert clip_and_step(optimizer, max_grad_norm=1.0) == 0.0
    assert torch.equal(weight, moved) and weight.grad is None


class TestMeasures:
    def test_means_are_over_tokens_and_losses_are_summed(self) -> None:
        """Prevents: means of micro-batch means, in which the tokens of a short micro-batch count more."""
        parts = [
            Measures.of(torch.tensor(1.0), {"ratio": torch.tensor([1.0, 0.5]), "kl": torch.tensor([1.0, 3.0])}),
            Measures.of(torch.tensor(2.0), {"ratio": torch.tensor([5.0]), "kl": torch.tensor([2.0])}),
        ]
        assert Measures.merged(parts).metrics() == {"loss": 3.0, "kl": 2.0, "ratio/max": 5.0, "ratio/min": 0.5}

    def test_no_tokens_is_no_division_by_zero(self) -> None:
        assert Measures().metrics() == {}

    def test_clip_ratios_are_shares_of_tokens(self, tiny_folder: Callable[[str], Path]) -> None:
        policy, groups, objective = load_tiny(tiny_folder("qwen3")), ragged_groups(3), ObjectiveConfig()
        _, _, seen = heron_gradient(policy, groups, objective)
        far = [logp + 5.0 for logp in seen]  # the ratio is exp(-5) everywhere
        _, stats, _ = heron_gradient(policy, groups, objective, old=far)
        metrics = stats.metrics()
        negative = sum(len(r.completion_ids) for group in groups for r in group.rollouts if r.advantage < 0)
        total = sum(len(r.completion_ids) for group in groups for r in group.rollouts)
        assert metrics["clip_ratio/low_mean"] == pytest.approx(negative / total)
        assert metrics["clip_ratio/high_mean"] == 0.0
