"""Drawing by inverting the cumulative distribution: right frequencies, right edges, nothing impossible."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from heron.kernels.sampling import BLOCK, invert_cdf, sample

ALMOST_ONE = 1 - 2.0**-53
SIZES = [1, 2, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000]


def naive(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """One cumulative sum over everything."""
    cdf = probabilities.double().cumsum(-1)
    return torch.searchsorted(cdf, (uniforms * cdf[:, -1])[:, None], right=True)[:, 0].clamp_max(probabilities.shape[-1] - 1)


@pytest.mark.parametrize("size", SIZES)
def test_equals_naive_search(size: int) -> None:
    """Prevents: a wrong block, and an offset that is wrong in a last block that is not full."""
    generator = torch.Generator().manual_seed(size)
    probabilities = (torch.randn(2000, size, generator=generator, dtype=torch.float64) * 3).softmax(-1)
    uniforms = torch.rand(2000, generator=generator, dtype=torch.float64)
    assert torch.equal(invert_cdf(probabilities, uniforms), naive(probabilities, uniforms))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("total", [0.5, 1.0, 3.0])
def test_need_not_sum_to_one(size: int, total: float) -> None:
    """Float32 probabilities sum to 0.9999999 or so: the rest must not all go to one token, or out of the word list."""
    generator = torch.Generator().manual_seed(size)
    probabilities = torch.rand(50, size, generator=generator) * total
    uniforms = torch.rand(50, generator=generator, dtype=torch.float64)
    assert torch.equal(invert_cdf(probabilities, uniforms), naive(probabilities, uniforms))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("uniform", [0.0, 5e-324, 1e-17, 0.5, 1 - 1e-15, ALMOST_ONE])
def test_edges_stay_inside_and_possible(size: int, uniform: float) -> None:
    """Prevents: index V at u near 1, and a token of probability 0 at u = 0 or beyond the last possible one."""
    generator = torch.Generator().manual_seed(size)
    for dtype in (torch.float32, torch.float64):
        probabilities = (torch.randn(200, size, generator=generator) * 4).softmax(-1).to(dtype)
        probabilities[:, ::2] *= torch.rand(200, 1, generator=generator) < 0.5  # zeros in many places
        probabilities[:, -1] = 0.0 if size > 2 else 1.0
        probabilities[:, 1 % size] += 1e-6
        tokens = invert_cdf(probabilities, torch.full((200,), uniform, dtype=torch.float64))
        assert int(tokens.min()) >= 0
        assert int(tokens.max()) < size
        assert bool((probabilities.gather(-1, tokens[:, None]) > 0).all())


@pytest.mark.parametrize("position", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 299])
@pytest.mark.parametrize("uniform", [0.0, 0.3, ALMOST_ONE])
def test_certain_token_is_always_drawn(position: int, uniform: float) -> None:
    """All mass on one token: whatever is drawn, it is that one."""
    probabilities = torch.zeros(1, 300)
    probabilities[0, position] = 0.7
    assert int(invert_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64))) == position


def test_border_belongs_to_the_upper_token() -> None:
    """`cdf[i-1] <= u < cdf[i]`: u exactly on a border draws the token above it."""
    probabilities = torch.tensor([[0.25, 0.25, 0.0, 0.5]], dtype=torch.float64).expand(4, -1)
    uniforms = torch.tensor([0.0, 0.25, 0.5, 0.4999999], dtype=torch.float64)
    assert invert_cdf(probabilities, uniforms).tolist() == [0, 1, 3, 1]


@pytest.mark.parametrize("size", [5, BLOCK + 40])
def test_frequencies_pass_chi_squared(size: int) -> None:
    """Prevents: a biased sampler, whose gradient would be that of another policy."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, size, generator=generator)
    draws = 40_000
    uniforms = torch.rand(draws, generator=generator, dtype=torch.float64)
    tokens, _, _ = sample(logits.expand(draws, -1), uniforms)
    expected = logits[0].double().softmax(-1) * draws
    counts = torch.bincount(tokens, minlength=size).double()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = size - 1
    limit = freedom * (1 - 2 / (9 * freedom) + 3.29 * math.sqrt(2 / (9 * freedom))) ** 3  # Wilson-Hilferty, p = 0.0005
    assert statistic < limit


def test_even_uniforms_give_exact_counts() -> None:
    """Uniforms on a fine lattice draw every token in proportion, to one draw: stronger than any statistic."""
    probabilities = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4], dtype=torch.float64)
    lattice = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = torch.bincount(invert_cdf(probabilities.expand(1000, -1), lattice), minlength=5)
    assert counts.tolist() == [100, 200, 0, 300, 400]


def test_logprob_and_entropy_are_those_of_the_distribution() -> None:
    """Prevents: the log-prob of another token, or an entropy in bits."""
    logits = torch.randn(6, 200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens, logprobs, entropy = sample(logits, torch.linspace(0, 0.99, 6, dtype=torch.float64))
    expected = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(logprobs, expected.log_prob(tokens))
    torch.testing.assert_close(entropy, expected.entropy())


def test_forbidden_tokens_are_never_drawn_and_keep_entropy_finite() -> None:
    """A logit of -inf is a probability of 0: 0 * -inf must not become NaN."""
    logits = torch.zeros(64, 10)
    logits[:, [0, 3, 9]] = float("-inf")
    uniforms = torch.linspace(0, ALMOST_ONE, 64, dtype=torch.float64)
    tokens, logprobs, entropy = sample(logits, uniforms)
    assert not set(tokens.tolist()) & {0, 3, 9}
    assert torch.isfinite(logprobs).all()
    torch.testing.assert_close(entropy, torch.full((64,), math.log(7.0)))
