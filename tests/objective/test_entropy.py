"""The top-entropy threshold, the entropy bonus, and its controller."""

from __future__ import annotations

import pytest
import torch
from padded import SETTINGS, draw, flat

from heron.errors import ConfigError
from heron.objective import AdaptiveEntropy, FixedEntropy, Objective, entropy_threshold, find_loss


@pytest.mark.parametrize("quantile", [0.01, 0.2, 0.3, 0.5, 0.99, 1.0])
def test_threshold_is_the_quantile(quantile: float) -> None:
    """Prevents: the share that is dropped taken for the share that is kept, and another interpolation than TRL's."""
    for count in (1, 2, 7, 100, 1001):
        values = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        threshold = entropy_threshold(values, quantile)
        assert threshold == pytest.approx(float(torch.quantile(values, 1 - quantile)), abs=1e-12)
        assert abs(int((values >= threshold).sum()) - quantile * count) <= 1
        assert entropy_threshold(values.tolist(), quantile) == threshold


def test_threshold_of_all_keeps_all_and_of_none_keeps_none() -> None:
    """Prevents: a token lost to rounding where no mask is wanted, and an error on an empty step."""
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert bool((values >= entropy_threshold(values, 1.0)).all())
    assert entropy_threshold([], 0.2) == float("inf")
    with pytest.raises(ConfigError, match="above 0 and not above 1"):
        entropy_threshold(values, 0.0)


def test_bonus_is_the_mean_over_kept_tokens_times_its_coefficient() -> None:
    """Prevents: a bonus with the sign of a loss, one over all tokens, or one that the surrogate's weights scale."""
    for seed in range(5):
        batch = draw(seed)
        count = int(batch.m.sum())
        generator = torch.Generator().manual_seed(seed)
        entropy = torch.rand(count, generator=generator, dtype=torch.float64).requires_grad_()
        keep = torch.randint(0, 2, (count,), generator=generator).double()
        tokens = flat(batch, "row_mean", keep=keep, entropy=entropy, entropy_weights=keep / keep.sum().clamp(min=1))
        objective = Objective(loss=find_loss("grpo"), settings=SETTINGS)
        with_bonus, without = objective(tokens, entropy_coef=0.03).loss, objective(tokens).loss
        mean = (entropy * keep).sum() / keep.sum().clamp(min=1)
        torch.testing.assert_close(with_bonus - without, -0.03 * mean, rtol=1e-12, atol=1e-14)
        (gradient,) = torch.autograd.grad(with_bonus, entropy)
        torch.testing.assert_close(gradient, -0.03 * keep / keep.sum().clamp(min=1))


def test_mask_leaves_the_kl_and_the_denominator_alone() -> None:
    """Prevents: a KL on the kept tokens alone, or a mean over them."""
    batch = draw(1)
    keep = torch.randint(0, 2, (int(batch.m.sum()),), generator=torch.Generator().manual_seed(0)).double()
    tokens = flat(batch, "tokens", keep=keep)
    plain = Objective(loss=find_loss("dapo"), settings=SETTINGS)
    ratio = torch.exp(tokens.logprobs - tokens.old_logprobs)
    capped = torch.minimum(ratio.clamp(max=SETTINGS["delta"]) * tokens.advantages, ratio.clamp(0.8, 1.28) * tokens.advantages)
    torch.testing.assert_close(plain(tokens).loss, -(capped * keep).mean(), rtol=1e-12, atol=1e-14)
    d = tokens.reference_logprobs - tokens.logprobs
    with_kl = Objective(loss=find_loss("dapo"), settings=SETTINGS, beta=0.2)(tokens).loss
    torch.testing.assert_close(with_kl - plain(tokens).loss, 0.2 * (d.exp() - d - 1).mean(), rtol=1e-10, atol=1e-14)


def test_controller_follows_the_entropy() -> None:
    """Prevents: a bonus in the first step, one above the target, or a coefficient that moves the wrong way or out of its bounds."""
    bonus = AdaptiveEntropy(coef=0.001, low=0.0, high=0.012, delta=0.005, target=0.2)
    assert bonus.applied == 0.0
    coefs, applied = [], []
    for entropy in (0.1, 0.2, 0.05, 0.3, 0.3, 0.3, 0.1):
        bonus = bonus.after(entropy)
        coefs.append(bonus.coef)
        applied.append(bonus.applied)
    assert coefs == pytest.approx([0.006, 0.011, 0.012, 0.007, 0.002, 0.0, 0.005])
    assert applied == pytest.approx([0.006, 0.011, 0.012, 0.0, 0.0, 0.0, 0.005])


def test_a_fixed_bonus_stays() -> None:
    assert FixedEntropy(coef=0.1).after(5.0).applied == 0.1 and FixedEntropy().applied == 0.0


def test_a_first_coefficient_out_of_bounds_is_refused() -> None:
    """Prevents: a coefficient that is moved into its bounds without a word."""
    with pytest.raises(ConfigError, match="within them"):
        AdaptiveEntropy(coef=0.5, high=0.1)
