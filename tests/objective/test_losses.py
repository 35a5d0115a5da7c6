"""Ratio, clips and KL token by token, in every region where they behave differently."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from heron.objective import clipped_surrogate, k3, token_weights

EPSILON, HIGH, DELTA = 0.2, 0.28, 2.0


def slope(ratio: float, advantage: float, *, high: float | None = HIGH, delta: float | None = DELTA) -> tuple[float, float]:
    """Loss and its derivative by the ratio's logarithm."""
    logp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    token = clipped_surrogate(
        logp, torch.zeros(1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64),
        epsilon=EPSILON, epsilon_high=high, delta=delta,
    )
    token.loss.sum().backward()
    return float(token.loss), float(logp.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on policy: the policy gradient
        (1.1, 2.0, -2.2, -2.2),  # within the clips
        (0.5, 2.0, -1.0, -1.0),  # a good token grown rarer: pulled back, never clipped
        (1.5, 2.0, -2.56, 0.0),  # a good token far above: enough
        (0.5, -2.0, 1.6, 0.0),  # a bad token far below: enough
        (1.5, -2.0, 3.0, 3.0),  # a bad token grown likelier: pushed down, never clipped at 1 + high
        (3.0, -2.0, 4.0, 0.0),  # above delta: the dual clip
    ],
)
def test_regions(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    """Prevents: min and max exchanged, a clip on the wrong side, delta on positive advantages."""
    assert slope(ratio, advantage) == (pytest.approx(loss), pytest.approx(gradient))


def test_without_delta_bad_tokens_are_not_capped() -> None:
    assert slope(3.0, -2.0, delta=None) == (pytest.approx(6.0), pytest.approx(6.0))


def test_epsilon_high_defaults_to_epsilon() -> None:
    assert slope(1.25, 1.0, high=None)[0] == pytest.approx(-1.2)
    assert slope(1.25, 1.0)[0] == pytest.approx(-1.25)


def test_clip_flags_count_only_clips_that_act() -> None:
    """Prevents: a clip ratio that counts tokens outside the range whose advantage lets them through."""
    ratios = torch.tensor([0.5, 0.5, 1.0, 1.0, 1.5, 1.5])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    token = clipped_surrogate(ratios.log(), torch.zeros(6), advantages, epsilon=EPSILON, epsilon_high=HIGH)
    assert token.clipped_low.tolist() == [False, True, False, False, False, False]
    assert token.clipped_high.tolist() == [False, False, False, False, True, False]
    assert not token.ratio.requires_grad


def test_k3_is_an_unbiased_estimate_that_is_never_negative() -> None:
    """Prevents: reference and policy exchanged, whose mean is another divergence."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(9, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    values = k3(policy, reference)
    assert bool((values >= 0).all())
    divergence = (policy.exp() * (policy - reference)).sum()
    assert float((policy.exp() * values).sum()) == pytest.approx(float(divergence), rel=1e-9)
    assert float(k3(policy, policy).abs().max()) == 0.0


def test_k3_gradient() -> None:
    """d k3 / d logp = 1 - exp(ref - logp): pulls towards the reference."""
    logp = torch.tensor([-1.0, -3.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-2.0, -2.0], dtype=torch.float64)
    k3(logp, reference).sum().backward()
    assert logp.grad.tolist() == pytest.approx([1 - math.exp(-1), 1 - math.exp(1)])


COUNTS = [4, 0, 1, 7]


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("grpo", [1 / 16, 1 / 4, 1 / 4, 1 / 28]),
        ("dapo", [1 / 12] * 4),
        ("bnpo", [1 / 12] * 4),
        ("dr_grpo", [1 / 40] * 4),
    ],
)
def test_token_weights(loss_type: str, expected: list[float]) -> None:
    """Prevents: masked rows (0 tokens) that leave R, or enter N."""
    assert token_weights(loss_type, COUNTS, max_completion_length=10) == pytest.approx(expected)


def test_weights_of_a_step_sum_to_one() -> None:
    """All but Dr. GRPO are means: their weights add up to 1 if no row is masked."""
    counts = [3, 5, 9]
    for loss_type in ("grpo", "dapo", "bnpo"):
        weights = token_weights(loss_type, counts, max_completion_length=10)
        assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(1.0)


def test_dr_grpo_does_not_depend_on_lengths() -> None:
    """The bias that Dr. GRPO takes out: longer answers must not weigh less per token."""
    for left, right in itertools.pairwise([[1, 1], [5, 9], [9, 5]]):
        weigh = {"max_completion_length": 10}
        assert token_weights("dr_grpo", left, **weigh) == token_weights("dr_grpo", right, **weigh)


def test_nothing_to_train_on_divides_by_no_zero() -> None:
    for loss_type in ("grpo", "dapo", "bnpo", "dr_grpo"):
        assert all(math.isfinite(w) for w in token_weights(loss_type, [0, 0], max_completion_length=5))


def test_unknown_loss_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'ppo'"):
        token_weights("ppo", [1], max_completion_length=5)
