"""Drawing by inverting the cumulative distribution: right frequencies, right edges, nothing impossible; and what the filters keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from heron.kernels import sampling
from heron.kernels.filters import largest, lowest_logit
from heron.kernels.host import draw
from heron.kernels.host.build import built
from heron.kernels.sampling import BLOCK, sample

ALMOST_ONE = 1 - 2.0**-53
SIZES = [1, 2, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000]
WHOLE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
FILTERS = [
    WHOLE, {**WHOLE, "top_k": 1}, {**WHOLE, "top_k": 7}, {**WHOLE, "top_k": 5000}, {**WHOLE, "top_p": 0.9}, {**WHOLE, "top_p": 0.05},
    {**WHOLE, "top_p": 0.99}, {**WHOLE, "min_p": 0.1}, {**WHOLE, "min_p": 1.0}, {"top_k": 40, "top_p": 0.8, "min_p": 0.02},
]


@pytest.fixture(params=["c", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways have to do all that is asked here; where logits are float64, both are torch's."""
    if request.param == "torch":
        monkeypatch.setattr(draw, "takes", lambda logits, at_least: False)
    elif built().code is None:
        pytest.skip(built().reason)
    return str(request.param)


def random_logits(rows: int, size: int, *, scale: float = 3.0, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed + size), dtype=torch.float64).mul(scale).to(dtype)


def random_uniforms(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(logits: Tensor, uniforms: Tensor) -> Tensor:
    """One cumulative sum over everything."""
    cdf = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(cdf, (uniforms * cdf[:, -1])[:, None], right=True)[:, 0].clamp_max(logits.shape[-1] - 1)


def chi_squared_limit(freedom: int) -> float:
    """Wilson-Hilferty, p = 0.0005."""
    return freedom * (1 - 2 / (9 * freedom) + 3.29 * math.sqrt(2 / (9 * freedom))) ** 3


def statistic(tokens: Tensor, probabilities: Tensor) -> tuple[float, int]:
    """Chi-squared, rare tokens in one cell, and its degrees of freedom."""
    expected = probabilities * len(tokens)
    counts = torch.bincount(tokens, minlength=len(probabilities)).double()
    common = expected >= 5
    cells = torch.stack([torch.cat([x[common], x[~common].sum()[None]]) for x in (counts, expected)])
    counts, expected = cells[:, cells[1] > 0]
    return float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1


@pytest.mark.parametrize("size", [*SIZES, 70_000])
def test_equals_naive_search(size: int) -> None:
    """Prevents: a wrong block, an offset that is wrong in a last block that is not full, and pieces that are weighed wrongly."""
    rows = 2000 if size <= 1000 else 40
    logits = random_logits(rows, size, dtype=torch.float64)
    uniforms = random_uniforms(rows)
    assert torch.equal(sample(logits, uniforms)[0], naive(logits, uniforms))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("uniform", [0.0, 5e-324, 1e-17, 0.5, 1 - 1e-15, ALMOST_ONE])
def test_edges_stay_inside_and_possible(size: int, uniform: float) -> None:
    """Prevents: index V at u near 1, and a token of probability 0 at u = 0 or beyond the last possible one."""
    for dtype in (torch.float32, torch.float64):
        logits = random_logits(200, size, scale=4, dtype=dtype)
        logits[:, ::2] = logits[:, ::2].masked_fill(torch.rand(200, 1, generator=torch.Generator().manual_seed(2)) < 0.5, -math.inf)
        logits[:, -1] = -math.inf if size > 2 else 1.0
        logits[:, 1 % size] = -9.0
        tokens, logprobs, entropy = sample(logits, torch.full((200,), uniform, dtype=torch.float64))
        assert int(tokens.min()) >= 0
        assert int(tokens.max()) < size
        assert bool((logits.gather(-1, tokens[:, None]) > -math.inf).all())
        assert bool((logprobs.isfinite() & entropy.isfinite()).all())


@pytest.mark.parametrize("position", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 299])
@pytest.mark.parametrize("uniform", [0.0, 0.3, ALMOST_ONE])
@pytest.mark.parametrize("rest", [-math.inf, -1000.0])
def test_certain_token_is_always_drawn(position: int, uniform: float, rest: float) -> None:
    """All mass on one token: whatever is drawn, it is that one. At -1000 the others underflow to nothing."""
    logits = torch.full((1, 300), rest)
    logits[0, position] = 0.7
    token, logprob, entropy = sample(logits, torch.tensor([uniform], dtype=torch.float64))
    assert int(token) == position
    assert float(logprob) == pytest.approx(0, abs=1e-7)
    assert float(entropy) == pytest.approx(0, abs=1e-6)


def test_border_belongs_to_the_upper_token() -> None:
    """`cdf[i-1] <= u < cdf[i]`: u exactly on a border draws the token above it."""
    logits = torch.tensor([[0.0, 0.0, -math.inf, math.log(2)]], dtype=torch.float64).expand(4, -1)
    assert sample(logits, torch.tensor([0.0, 0.2501, 0.5001, 0.4999], dtype=torch.float64))[0].tolist() == [0, 1, 3, 1]
    assert sample(torch.zeros(1, 4), torch.tensor([0.25, 0.5], dtype=torch.float64), torch.tensor([0, 0]))[0].tolist() == [1, 2]


@pytest.mark.parametrize("size", [5, BLOCK + 40, 70_000])
@pytest.mark.parametrize("filters", [WHOLE, {"top_k": 60, "top_p": 0.9, "min_p": 0.01}])
@pytest.mark.parametrize("rounded", [False, True])
def test_frequencies_pass_chi_squared(size: int, filters: dict[str, Any], rounded: bool) -> None:
    """Prevents: a biased sampler, whose gradient would be that of another policy. Logits rounded to bfloat16 have many ties."""
    logits = random_logits(1, size, scale=2)
    logits = logits.bfloat16().float() if rounded else logits
    at_least = lowest_logit(logits, temperature=0.8, **filters)
    tokens, _, _ = sample(
        logits, random_uniforms(40_000), torch.zeros(40_000, dtype=torch.int64), temperature=0.8, at_least=at_least
    )
    kept = logits[0] if at_least is None else logits[0].masked_fill(logits[0] < at_least, -math.inf)
    probabilities = (kept.double() / 0.8).softmax(-1)
    assert bool((probabilities[tokens] > 0).all())
    found, freedom = statistic(tokens, probabilities)
    assert found < chi_squared_limit(freedom)


def test_even_uniforms_give_exact_counts() -> None:
    """Uniforms on a fine lattice draw every token in proportion, to one draw: stronger than any statistic."""
    logits = torch.tensor([[0.1, 0.2, 0.0, 0.3, 0.4]], dtype=torch.float64).log()
    lattice = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens, _, _ = sample(logits, lattice, torch.zeros(1000, dtype=torch.int64))
    assert torch.bincount(tokens, minlength=5).tolist() == [100, 200, 0, 300, 400]


@pytest.mark.parametrize("size", [5, 200, 1000, 70_000])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("offset", [0.0, 90.0, -2000.0])
def test_logprob_and_entropy_are_those_of_the_distribution(size: int, temperature: float, offset: float) -> None:
    """Prevents: the log-prob of another token, an entropy in bits, a normaliser summed in float32, and an exponential that overflows."""
    logits = random_logits(6, size) + offset
    tokens, logprobs, entropy = sample(logits, torch.linspace(0, 0.99, 6, dtype=torch.float64), temperature=temperature)
    expected = torch.distributions.Categorical(logits=logits.double() / temperature)
    rounding = 1e-6 * max(1.0, abs(offset))  # of the tempered logits, float32
    torch.testing.assert_close(logprobs, expected.log_prob(tokens), atol=rounding, rtol=0)
    torch.testing.assert_close(entropy, expected.entropy(), atol=6 * rounding, rtol=0)


def test_forbidden_tokens_are_never_drawn_and_keep_entropy_finite() -> None:
    """A logit of -inf is a probability of 0: 0 * -inf must not become NaN."""
    logits = torch.zeros(64, 10)
    logits[:, [0, 3, 9]] = float("-inf")
    tokens, logprobs, entropy = sample(logits, torch.linspace(0, ALMOST_ONE, 64, dtype=torch.float64))
    assert not set(tokens.tolist()) & {0, 3, 9}
    assert torch.isfinite(logprobs).all()
    torch.testing.assert_close(entropy, torch.full((64,), math.log(7.0), dtype=torch.float64))


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_what_is_no_distribution_is_not_finite(bad: float | None) -> None:
    """Prevents: a token made up from a row that is broken, or in which nothing is possible; its neighbours are as before."""
    logits = random_logits(3, 300)
    before = sample(logits, random_uniforms(3))
    logits[1] = -math.inf
    if bad is not None:
        logits[1, 200] = bad
    after = sample(logits, random_uniforms(3))
    assert not math.isfinite(after[1][1])
    assert 0 <= int(after[0][1]) < 300
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])


@pytest.mark.parametrize("size", [5, 129, 1000, 70_001])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_depends_on_no_other(size: int, temperature: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, alone or in a crowd, with any number of threads: rounding must not depend on the place in a tile."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    logits, uniforms = random_logits(19, size), random_uniforms(19)
    logits[4, ::3] = -math.inf  # and a row that needs the longer way
    crowd = sample(logits, uniforms, temperature=temperature)
    for row in (0, 4, 18):
        alone = sample(logits[row : row + 1], uniforms[row : row + 1], temperature=temperature)
        for one, all_of_them in zip(alone, crowd, strict=True):
            assert torch.equal(one, all_of_them[row : row + 1])


def test_siblings_share_a_row() -> None:
    """Several draws from one row equal draws from copies of it."""
    logits, uniforms = random_logits(3, 500), random_uniforms(7)
    rows = torch.tensor([0, 0, 2, 1, 1, 1, 0])
    for shared, copied in zip(sample(logits, uniforms, rows), sample(logits[rows], uniforms), strict=True):
        assert torch.equal(shared, copied)


def test_memory_is_not_another_batch_of_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: buffers as large as the logits; the planner counts on tiles."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    logits = random_logits(64, 5000)
    assert sampling._tile(logits)[0] * sampling._tile(logits)[1] <= sampling.TILE
    assert sampling._distribution(logits, 1.0, None).cdf.numel() <= logits.numel() / BLOCK + 64


def warped(logits: Tensor, temperature: float, filters: dict[str, Any]) -> Tensor:
    """What transformers' `generate` makes of logits."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores, ids = logits / temperature, torch.zeros(len(logits), 1, dtype=torch.int64)
    assert torch.equal(scores, TemperatureLogitsWarper(temperature)(ids, logits))
    for warper in (
        TopKLogitsWarper(filters["top_k"]) if filters["top_k"] else None,
        TopPLogitsWarper(filters["top_p"]) if filters["top_p"] < 1 else None,
        MinPLogitsWarper(filters["min_p"]) if filters["min_p"] else None,
    ):
        scores = scores if warper is None else warper(ids, scores)
    return scores


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("size", [5, 300, 9001])
@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_filters_equal_those_of_transformers(filters: dict[str, Any], size: int, temperature: float) -> None:
    """Same support, same renormalised distribution: a wrong order, a border off by one, probabilities before the temperature."""
    logits = random_logits(8, size)
    theirs = warped(logits.double(), temperature, filters).log_softmax(-1)  # float32 sums would decide about the border
    at_least = lowest_logit(logits, temperature=temperature, **filters)
    kept = torch.ones_like(logits, dtype=torch.bool) if at_least is None else logits >= at_least[:, None]
    border = 1 if filters["top_p"] == 0.99 and size == 9001 else 0  # thousands of tokens of 1e-5: one may lie within float32's rounding
    assert int((kept != (theirs > -math.inf)).sum(-1).max()) <= border
    tokens, logprobs, entropy = sample(logits, random_uniforms(8), temperature=temperature, at_least=at_least)
    torch.testing.assert_close(logprobs, theirs.gather(-1, tokens[:, None])[:, 0], atol=3e-6 + border * 2e-5, rtol=0)
    torch.testing.assert_close(entropy, torch.special.entr(theirs.exp()).sum(-1), atol=1e-5 + border * 1e-4, rtol=0)


def test_equals_stay_or_go_together() -> None:
    """Prevents: a filter whose choice among equally likely tokens depends on their place."""
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    for filters in ({"top_k": 2}, {"top_p": 0.5}, {"min_p": math.exp(-1.001)}):
        lowest = lowest_logit(logits, temperature=1.0, **filters)
        assert lowest is not None
        assert (logits >= lowest).tolist() == [[True, True, True, True, False]]


def test_filters_of_impossible_tokens() -> None:
    """Prevents: masked tokens that come back because fewer than k are possible."""
    logits = torch.full((1, 200), -math.inf)
    logits[0, [3, 150]] = torch.tensor([1.0, 0.5])
    for filters in ({"top_k": 10}, {"top_p": 0.99}, {"min_p": 0.01}, {"top_k": 10, "top_p": 0.99}):
        at_least = lowest_logit(logits, temperature=1.0, **filters)
        tokens, logprobs, _ = sample(logits, random_uniforms(50), torch.zeros(50, dtype=torch.int64), at_least=at_least)
        assert set(tokens.tolist()) == {3, 150}
        assert bool(logprobs.isfinite().all())


@pytest.mark.parametrize("count", [1, 3, 50, 400, 1000])
def test_largest(count: int) -> None:
    """Prevents: a large one in the part of a block that the vocabulary ends with, and two in one block."""
    logits = random_logits(5, 64 * 400 + 13, scale=1)
    logits[:, -3:] += 9
    logits[:, 640:660] += 7
    assert torch.equal(largest(logits, count), logits.sort(-1, descending=True).values[:, :count])
