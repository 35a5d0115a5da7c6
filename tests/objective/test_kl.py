"""KL estimates: values, and their expected gradients on a small categorical, by exact enumeration."""

from __future__ import annotations

import padded
import pytest
import torch
from padded import SETTINGS, draw, value_and_gradient
from torch import Tensor

from heron.objective import KL_ESTIMATORS, Objective, Tokens, find_loss, register_loss


@register_loss(weights="tokens")
def nothing(inputs) -> Tensor:
    """So that the KL is all there is."""
    return inputs.logprobs * 0


def expected_gradient(estimator: str, *, corrected: bool, old: Tensor, logits: Tensor, reference: Tensor) -> Tensor:
    """Of beta * KL over every token that the old policy can draw, each with its probability."""
    logprobs = logits.log_softmax(0)
    count = len(logits)
    tokens = Tokens(logprobs=logprobs, old_logprobs=old, advantages=torch.zeros(count), rows=torch.arange(count), weights=old.exp(),
                    reference_logprobs=reference)
    objective = Objective(loss=nothing, beta=1.0, kl_estimator=estimator, use_bias_correction_kl=corrected)
    return torch.autograd.grad(objective(tokens).loss, logits)[0]


def gradient_of_kl(logits: Tensor, reference: Tensor, *, forward: bool) -> Tensor:
    """KL(reference, policy) if forward, else KL(policy, reference)."""
    logprobs = logits.log_softmax(0)
    kl = (reference.exp() * (reference - logprobs)).sum() if forward else (logprobs.exp() * (logprobs - reference)).sum()
    return torch.autograd.grad(kl, logits)[0]


@pytest.fixture
def categorical() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the policy, log-probs of the reference and of another policy, over seven tokens."""
    draws = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return draws[0].requires_grad_(), draws[1].log_softmax(0), draws[2].log_softmax(0)


@pytest.mark.parametrize(
    ("estimator", "corrected", "forward"), [("k2", False, False), ("k3", False, True), ("k1", True, False), ("k3", True, False)]
)
def test_on_policy_gradient_is_that_of_the_kl_it_claims(estimator: str, corrected: bool, forward: bool, categorical) -> None:
    """Prevents: descending something else than what the documents say. Without correction k3 is the *forward* KL."""
    logits, reference, _ = categorical
    found = expected_gradient(estimator, corrected=corrected, old=logits.detach().log_softmax(0), logits=logits, reference=reference)
    torch.testing.assert_close(found, gradient_of_kl(logits, reference, forward=forward), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_off_policy_the_correction_keeps_the_gradient(estimator: str, categorical) -> None:
    """Prevents: a ratio without gradient, or none at all, in the bias correction."""
    logits, reference, old = categorical
    found = expected_gradient(estimator, corrected=True, old=old, logits=logits, reference=reference)
    torch.testing.assert_close(found, gradient_of_kl(logits, reference, forward=False), rtol=1e-12, atol=1e-12)
    uncorrected = expected_gradient("k3", corrected=False, old=old, logits=logits, reference=reference)
    assert not torch.allclose(uncorrected, found, rtol=1e-2)


def test_k1_without_correction_has_no_gradient_in_expectation(categorical) -> None:
    """The reason why it is refused: the sum over tokens of p * grad log p is 0."""
    logits, reference, _ = categorical
    probabilities = logits.detach().softmax(0)
    loss = (probabilities * KL_ESTIMATORS["k1"](logits.log_softmax(0), reference)).sum()
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-15


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("corrected", [False, True])
def test_kl_is_added_with_the_weights_of_the_loss(estimator: str, level: str, corrected: bool) -> None:
    """Prevents: a KL that is reduced otherwise than the loss, or multiplied by masks and corrections of the surrogate."""
    if estimator == "k1" and not corrected:
        return
    objective = Objective(loss=find_loss("dapo"), level=level, settings=SETTINGS, beta=0.3, kl_estimator=estimator,
                          use_bias_correction_kl=corrected, off_policy_mask_threshold=0.0)
    plain = Objective(loss=find_loss("dapo"), level=level, settings=SETTINGS, off_policy_mask_threshold=0.0)
    for seed in range(5):
        batch = draw(seed)
        d = batch.ref - batch.lp
        k = {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - d - 1}[estimator] * (padded.ratio(batch, level) if corrected else 1)
        wanted = 0.3 * (k * batch.m).sum() / batch.m.sum()
        keep = torch.zeros(int(batch.m.sum()), dtype=torch.float64)
        found, without = (value_and_gradient(each, batch, keep=keep) for each in (objective, plain))
        torch.testing.assert_close(found[0] - without[0], wanted.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[1] - without[1], torch.autograd.grad(wanted, batch.lp)[0], rtol=1e-10, atol=1e-12)
