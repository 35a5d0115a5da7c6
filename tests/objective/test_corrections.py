"""Off-policy corrections, the off-policy mask, and the statistics of a mismatch, against naive padded references."""

from __future__ import annotations

import math

import padded
import pytest
import torch
from padded import SETTINGS, Padded, draw, flat, value_and_gradient
from torch import Tensor

from heron.errors import ConfigError
from heron.objective import CORRECTIONS, Correction, Objective, Tokens, find_correction, find_loss, mismatch_statistics, off_policy_keep
from heron.objective.corrections import effective_sample_size

LOW, HIGH = 0.8, 1.3
GEOMETRIC = 0.9, 1.1
"""A mean over a row is nearer to 1."""


def limits(mode: str) -> tuple[float, float]:
    return GEOMETRIC if mode.startswith("geometric") else (LOW, HIGH)


def correction_of(mode: str) -> Correction | None:
    low, high = limits(mode)
    return find_correction(mode, low=low, high=high)


def naive_rho(b: Padded, mode: str, policy: Tensor) -> Tensor:
    """`[R, T]` or `[R, 1]`."""
    (level, bound), (low, high) = mode.split("_"), limits(mode)
    d = torch.where(b.smp.isnan(), 0.0, policy - b.smp) * b.m
    rho = {"token": d, "sequence": d.sum(1, keepdim=True), "geometric": d.sum(1, keepdim=True) / b.n[:, None]}[level].exp()
    inside = ((rho >= low) & (rho <= high)).double()
    masked = inside if level == "geometric" else rho * inside
    return rho.clamp(low, high) if bound == "truncate" else masked


def check(objective: Objective, batch: Padded, per_token: Tensor) -> None:
    """The objective's value and gradient are those of `per_token [R, T]`, averaged over the tokens of the step."""
    wanted = (per_token * batch.m).sum() / batch.m.sum()
    found = value_and_gradient(objective, batch)
    torch.testing.assert_close(found[0], wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], torch.autograd.grad(wanted, batch.lp)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_correction_multiplies_the_surrogate_and_not_the_kl(mode: str) -> None:
    """Prevents: a bound on the wrong side, a mean for a sum, a gradient through rho, a KL that is corrected too."""
    objective = Objective(loss=find_loss("dapo"), settings=SETTINGS, beta=0.1, correction=correction_of(mode))
    for seed in range(12):
        batch = draw(seed)
        d = batch.ref - batch.lp
        check(objective, batch, naive_rho(batch, mode, batch.old) * padded.surrogate("dapo", batch, SETTINGS, "token")
              + 0.1 * (d.exp() - d - 1))


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_reinforce_corrects_to_the_current_policy(mode: str) -> None:
    """Prevents: pure importance sampling with the policy before the update in the numerator, which nothing then corrects further."""
    objective = Objective(loss=find_loss("reinforce"), correction=correction_of(mode))
    for seed in range(6):
        batch = draw(seed)
        check(objective, batch, -naive_rho(batch, mode, batch.lp.detach()) * batch.A[:, None] * batch.lp)


def test_every_mode_decides_something_on_these_rows() -> None:
    """Prevents: the tests above passing because bounds never act."""
    batches = [draw(seed) for seed in range(12)]
    for mode in CORRECTIONS:
        rho = torch.cat([naive_rho(batch, mode, batch.old).flatten() for batch in batches])
        bounds = set(limits(mode)) if mode.endswith("truncate") else {0.0}
        assert bounds <= set(rho.tolist()) and len(set(rho.tolist())) > len(bounds)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_a_sampler_that_agrees_is_not_corrected(mode: str) -> None:
    """Prevents: a correction that is not neutral for an exact engine, or for tokens that the sampler did not score."""
    tokens = flat(draw(2), "tokens")
    for sampler in (tokens.old_logprobs, torch.full_like(tokens.old_logprobs, torch.nan)):
        raw, bounded = correction_of(mode).ratio(tokens.old_logprobs, sampler, tokens.segments)
        assert bool((raw == 1).all()) and bool((bounded == 1).all()) and not bounded.requires_grad


def test_masked_tokens_stay_in_the_denominator() -> None:
    """Prevents: a rejection sampler, whose effective step grows with what it drops."""
    batch = draw(0)
    batch.smp = batch.old.clone()
    batch.smp[0] -= 1.0  # a ratio of e for each token of row 0
    objective = Objective(loss=find_loss("dapo"), settings=SETTINGS, correction=find_correction("token_mask", high=2.0))
    rest = torch.arange(len(batch.A))[:, None] > 0
    check(objective, batch, padded.surrogate("dapo", batch, SETTINGS, "token") * rest)


def test_marks_hold_the_ratio_before_and_after_the_bound() -> None:
    """Prevents: a log that shows bounded ratios only, and so never how far they were off."""
    batch = draw(3)
    objective = Objective(loss=find_loss("dapo"), settings=SETTINGS, correction=find_correction("token_mask", low=LOW, high=HIGH))
    marks = objective(flat(batch, "tokens")).marks
    raw, bounded = marks["importance_raw"], marks["importance"]
    assert float(raw.max()) > HIGH and bool((bounded[raw > HIGH] == 0).all()) and bool((bounded[(raw >= LOW) & (raw <= HIGH)] > 0).all())


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("reports", [True, False])
def test_off_policy_mask_is_that_of_its_paper(threshold: float, reports: bool) -> None:
    """Prevents: rows with A >= 0 dropped, the gap with its sign turned, a mean over more than the row's tokens."""
    dropped = 0
    for seed in range(12):
        batch = draw(seed)
        batch.smp = batch.smp if reports else torch.full_like(batch.smp, torch.nan)
        given = flat(batch, "tokens")
        tokens = given if reports else Tokens(
            logprobs=given.logprobs, old_logprobs=given.old_logprobs, advantages=given.advantages, rows=given.rows, weights=given.weights)
        behaviour = batch.smp if reports else batch.old
        left = (torch.where(behaviour.isnan(), 0.0, behaviour - batch.lp.detach()) * batch.m).sum(1) / batch.n
        keep = ((batch.A >= 0) | (left <= threshold)).double()
        wanted = keep[batch.m.bool().nonzero()[:, 0]]
        torch.testing.assert_close(off_policy_keep(tokens, threshold), wanted)
        dropped += int((wanted == 0).sum())
    assert dropped


def test_off_policy_mask_drops_the_surrogate_and_keeps_the_kl() -> None:
    """Prevents: a mask that takes the KL of a row that has moved too far, which is what would bring it back."""
    objective = Objective(loss=find_loss("dapo"), settings=SETTINGS, beta=0.1, off_policy_mask_threshold=0.05)
    for seed in range(6):
        batch = draw(seed)
        left = (torch.where(batch.smp.isnan(), 0.0, batch.smp - batch.lp.detach()) * batch.m).sum(1) / batch.n
        keep = ((batch.A >= 0) | (left <= 0.05)).double()[:, None]
        d = batch.ref - batch.lp
        check(objective, batch, keep * padded.surrogate("dapo", batch, SETTINGS, "token") + 0.1 * (d.exp() - d - 1))


def test_statistics_are_those_of_the_tokens_that_were_scored() -> None:
    """Prevents: NaN in the log, and a KL of the wrong direction."""
    policy = torch.tensor([-1.0, -2.0, -0.5, -3.0])
    sampler = torch.tensor([-1.2, math.nan, -0.5, -2.0])
    raw, bounded = torch.tensor([1.2, 1.0, 1.0, 0.4]), torch.tensor([1.2, 1.0, 1.0, 0.0])
    gaps = [0.2, 0.0, -1.0]
    found = mismatch_statistics(policy, sampler, raw=raw, bounded=bounded)
    assert found == pytest.approx({
        "sampling/logp_difference_mean": 0.4, "sampling/logp_difference_max": 1.0, "sampling/unscored": 0.25,
        "sampling/k3": sum(math.exp(gap) - gap - 1 for gap in gaps) / 3,
        "sampling/importance_raw/mean": 0.9, "sampling/importance_raw/min": 0.4, "sampling/importance_raw/max": 1.2,
        "sampling/importance_bounded/mean": 0.8, "sampling/importance_bounded/min": 0.0, "sampling/importance_bounded/max": 1.2,
        "sampling/masked": 0.25, "sampling/ess": 3.2**2 / (4 * 3.44),
    })
    assert all(math.isfinite(value) for value in mismatch_statistics(policy[:0], sampler[:0]).values())
    assert all(math.isfinite(value) for value in mismatch_statistics(policy, torch.full_like(policy, torch.nan)).values())


def test_effective_sample_size_is_between_one_token_and_all() -> None:
    """Prevents: a ratio turned over."""
    assert effective_sample_size(torch.full((5,), 0.3)) == pytest.approx(1.0)
    assert effective_sample_size(torch.tensor([0.0, 7.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert effective_sample_size(torch.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: find_correction("token_trunc"), 'Did you mean "token_truncate"'),
        (lambda: Correction(level="row", bound="mask"), "Levels are token, sequence, geometric"),
        (lambda: Correction(level="token", bound="mask", low=3.0, high=1.0), "below importance_sampling_clip_max"),
        (lambda: Correction(level="token", bound="truncate", low=-0.1), "at least 0"),
        (lambda: Correction(level="token", bound="truncate", low=None, high=None), "without bounds"),
    ],
)
def test_wrong_corrections_say_what_to_do(make, message: str) -> None:
    """Prevents: bounds that mask everything, and a bare KeyError."""
    with pytest.raises(ConfigError, match=message):
        make()
    assert find_correction("none") is None
