"""Every loss against a naive padded float64 reference, and what must hold of it whatever the numbers."""

from __future__ import annotations

import random

import padded
import pytest
import torch
from padded import SETTINGS, Padded, draw, flat, value_and_gradient
from torch import Tensor

from heron.objective import LOSSES, Counts, LossInputs, Objective, find_correction, find_loss, register_loss

BOTH_LEVELS = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo")
CASES = [(name, level) for name in LOSSES for level in ("token", "sequence") if level == "token" or name in BOTH_LEVELS]


def objective_of(name: str, level: str = "token", **more: object) -> Objective:
    settings = SETTINGS | ({"epsilon_high": 1.2} if name == "cispo" else {})
    return Objective(loss=find_loss(name), level=level, settings=settings, **more)


def close(given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], tolerance: float = 1e-12) -> None:
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "level"), CASES)
def test_loss_is_the_formula_of_its_paper(name: str, level: str) -> None:
    """Prevents: a wrong sign, clip side, level, or denominator of any loss, on ragged rows and rows that are masked whole."""
    objective = objective_of(name, level)
    for seed in range(12):
        batch = draw(seed)
        wanted = padded.reduce(name, padded.surrogate(name, batch, objective.settings, level), batch.m)
        close(value_and_gradient(objective, batch), (wanted.detach(), torch.autograd.grad(wanted, batch.lp)[0]))


@pytest.mark.parametrize("mode", ["token_truncate", "sequence_mask"])
def test_vespo_takes_the_correction_into_its_own_ratio(mode: str) -> None:
    """Prevents: rho multiplied twice, or the log of a row's rho added once per token."""
    for seed in range(8):
        batch = draw(seed)
        gap = torch.where(batch.smp.isnan(), 0.0, batch.old - batch.smp) * batch.m
        rho = gap.exp().clamp(max=1.2) if mode == "token_truncate" else gap.sum(1, keepdim=True).exp()
        rho = rho if mode == "token_truncate" else rho * (rho <= 1.2)
        log_rho = rho.log().clamp(min=torch.tensor(1e-8).log().item())
        log_rho = (log_rho * batch.m).sum(1) if mode == "token_truncate" else log_rho[:, 0]
        wanted = padded.reduce("vespo", padded.vespo(batch, SETTINGS, log_rho), batch.m)
        found = value_and_gradient(objective_of("vespo", correction=find_correction(mode, high=1.2)), batch)
        close(found, (wanted.detach(), torch.autograd.grad(wanted, batch.lp)[0]), 1e-6)


@pytest.mark.parametrize(("name", "level"), CASES)
def test_gradient_does_not_depend_on_micro_batches_order_or_rows_without_advantage(name: str, level: str) -> None:
    """Prevents: a denominator or a row's ratio that is taken over a micro-batch, and a ratio that mixes neighbouring rows."""
    objective = objective_of(name, level, correction=find_correction("sequence_truncate", high=2.0), off_policy_mask_threshold=0.05)
    for seed in range(6):
        batch = draw(seed)
        draws = random.Random(seed)
        rows = list(range(len(batch.A)))
        counts = Counts.of([int(length) for length in batch.m.sum(1)])
        _, whole = value_and_gradient(objective, batch)
        draws.shuffle(rows)
        cut = draws.randint(1, len(rows) - 1)
        parts = [[row for row in part if batch.A[row] and batch.m[row].any()] for part in (rows[:cut], rows[cut:])]
        losses = [objective(flat(batch.rows(part), objective.loss.weights, counts=counts)).loss for part in parts if part]
        torch.testing.assert_close(torch.autograd.grad(sum(losses), batch.lp)[0], whole, rtol=1e-12, atol=1e-14)


def test_tokens_of_rows_may_be_interleaved() -> None:
    """Prevents: a row's sum that only works where its tokens stand side by side, as they do not in a packed tree."""
    objective = objective_of("gspo")
    for seed in range(6):
        batch = draw(seed)
        order = torch.randperm(int(batch.m.sum()), generator=torch.Generator().manual_seed(seed))
        close(value_and_gradient(objective, batch, order=order), value_and_gradient(objective, batch))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ratio_is_exactly_one_on_policy(level: str, dtype: torch.dtype) -> None:
    """Prevents: a clip that acts, or a KL correction that is not neutral, on the first pass."""
    batch = draw(3)
    batch.lp = batch.lp.detach().to(dtype).requires_grad_()
    batch.old = batch.lp.detach()
    step = objective_of("grpo", level)(flat(batch, "row_mean"))
    assert bool((step.marks["ratio"] == 1).all())
    assert not step.marks["clip_ratio/region_mean"].any()
    if level == "token":
        (gradient,) = torch.autograd.grad(step.loss, batch.lp)
        torch.testing.assert_close(gradient, -batch.m.to(dtype) * (batch.A / batch.n / len(batch.A)).to(dtype)[:, None])


def test_gspo_is_the_clip_at_sequence_level() -> None:
    """Prevents: two formulas of one method, drifting apart."""
    for seed in range(6):
        batch = draw(seed)
        close(value_and_gradient(objective_of("gspo"), batch), value_and_gradient(objective_of("grpo", "sequence"), batch), 0)


@register_loss(weights="row_mean")
def gspo_token(inputs: LossInputs, *, epsilon: float, epsilon_high: float, delta: float) -> Tensor:
    """The per-token form of GSPO (2507.18071, eq. 13): the row's ratio in value, the token's in gradient."""
    row = inputs.spread(inputs.row_mean(inputs.log_ratio).exp()).detach()
    ratio = row * torch.exp(inputs.logprobs - inputs.logprobs.detach())
    capped = torch.minimum(ratio.clamp(max=delta) * inputs.advantages, ratio.clamp(1 - epsilon, 1 + epsilon_high) * inputs.advantages)
    return -capped


def test_gspo_token_has_the_gradient_of_gspo() -> None:
    """Prevents: a gradient that does not go through the mean of the row's log-ratios."""
    for seed in range(6):
        batch = draw(seed)
        close(value_and_gradient(Objective(loss=gspo_token, settings=SETTINGS), batch), value_and_gradient(objective_of("gspo"), batch))


def test_gmpo_takes_its_mean_over_the_kept_tokens() -> None:
    """Prevents: the entropy mask multiplied onto a loss of whole rows, which would scale it by the share of kept tokens."""
    batch = draw(4)
    keep = torch.randint(0, 2, batch.m.shape, generator=torch.Generator().manual_seed(0)).double()
    kept = Padded(batch.lp, batch.old, batch.smp, batch.ref, batch.A, batch.m * keep)
    wanted = (padded.gmpo(kept, SETTINGS)[:, 0] * batch.m.any(1)).mean()
    found = value_and_gradient(objective_of("gmpo"), batch, keep=keep[batch.m.bool()])
    close(found, (wanted.detach(), torch.autograd.grad(wanted, batch.lp)[0]))


def test_a_ratio_beyond_all_bounds_stays_finite() -> None:
    """Prevents: exp overflowing to inf, and inf * 0 to NaN, where a token's probability changed by e^200."""
    for name, level in CASES:
        batch = draw(1, spread=200.0)
        found = value_and_gradient(objective_of(name, level, beta=0.0), batch)
        assert all(bool(x.isfinite().all()) for x in found), name


def test_marks_say_where_a_clip_took_the_gradient() -> None:
    """Prevents: clip ratios that count tokens whose gradient is intact."""
    batch = draw(5)
    tokens = flat(batch, "row_mean")
    step = Objective(loss=find_loss("grpo"), settings=SETTINGS | {"delta": None})(tokens)
    (gradient,) = torch.autograd.grad(step.loss, batch.lp)
    lost = (gradient[batch.m.bool()] == 0) & (tokens.advantages != 0)
    assert lost.any() and bool((step.marks["clip_ratio/region_mean"].bool() == lost).all())
    low, high = step.marks["clip_ratio/low_mean"], step.marks["clip_ratio/high_mean"]
    assert bool((tokens.advantages[low.bool()] < 0).all()) and bool((tokens.advantages[high.bool()] > 0).all())
    assert all(mark.dtype == torch.float64 and not mark.requires_grad for mark in step.marks.values())
