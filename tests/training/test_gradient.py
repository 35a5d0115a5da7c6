"""The gradient of a whole optimizer step against a naive implementation in float64.

Prevents: a wrong weight, shift, mask, ratio, KL or temperature anywhere between groups and `.grad`. The naive side is `naive.py`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import MAX_LENGTH, difference, heron_gradient, in_float64, naive_gradient, naive_logprobs, naive_loss, nudge
from tinymodels import load_tiny, ragged_groups, stir_adapter

from heron.config.schema import ObjectiveConfig
from heron.models import Policy
from heron.training.batch import make_samples

LOSS_TYPES = ("grpo", "bnpo", "dapo", "dr_grpo")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def make_policy(tiny_folder: Callable[[str], Path]) -> Callable[..., Policy]:
    """A fresh policy that has moved away from its reference, as after some steps."""

    def make(method: str = "full", kind: str = "qwen3", *, moved: float = 0.03) -> Policy:
        policy = load_tiny(tiny_folder(kind), method=method, lora_rank=4)
        if method == "lora":
            stir_adapter(policy, scale=0.1)
        else:
            policy.set_reference(copy.deepcopy(policy.model))
            nudge(policy, moved)
        return policy

    return make


CASES = [
    pytest.param(method, loss_type, beta, mask, id=f"{method}-{loss_type}-beta{beta}-{'mask' if mask else 'nomask'}")
    for method, loss_type, beta, mask in itertools.product(("full", "lora"), LOSS_TYPES, (0.0, 0.1), (False, True))
]


@pytest.mark.parametrize(("method", "loss_type", "beta", "mask"), CASES)
def test_first_pass_equals_textbook(make_policy: Any, method: str, loss_type: str, beta: float, mask: bool) -> None:
    policy, groups = make_policy(method), ragged_groups(3)
    objective = ObjectiveConfig(loss_type=loss_type, beta=beta, mask_truncated_completions=mask)
    ours, stats, _ = heron_gradient(policy, groups, objective)
    assert difference(ours, naive_gradient(policy, groups, objective)) < TOLERANCE
    assert stats.ratio_max == 1.0, "on the first pass the ratio is 1, not almost 1"


@pytest.mark.parametrize(("method", "loss_type", "beta", "mask"), CASES)
def test_second_pass_with_clipping_equals_textbook(
    make_policy: Any, method: str, loss_type: str, beta: float, mask: bool
) -> None:
    """Old log-probs come from the first pass; then the weights move far enough for every clip to bite."""
    policy, groups = make_policy(method), ragged_groups(5)
    objective = ObjectiveConfig(
        loss_type=loss_type, beta=beta, mask_truncated_completions=mask, epsilon=0.1, epsilon_high=0.15, delta=1.4
    )
    _, _, old = heron_gradient(policy, groups, objective)
    with torch.no_grad():
        naive_old = naive_logprobs(in_float64(policy.model), groups)
    nudge(policy, 0.05, seed=2)
    ours, stats, _ = heron_gradient(policy, groups, objective, old=old)
    assert stats.clipped_low > 0, "the test must exercise the lower clip"
    assert stats.clipped_high > 0, "the test must exercise the upper clip"
    assert stats.ratio_max > objective.delta, "the test must exercise delta"
    assert difference(ours, naive_gradient(policy, groups, objective, old=naive_old)) < TOLERANCE


@pytest.mark.parametrize("kind", ["llama", "untied", "mistral-window", "qwen2-window"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_families_equal_textbook(make_policy: Any, kind: str, method: str) -> None:
    """Prevents: a family whose head, norm or sliding window is read differently while training."""
    policy, groups = make_policy(method, kind), ragged_groups(7)
    objective = ObjectiveConfig(beta=0.1)
    ours, _, _ = heron_gradient(policy, groups, objective)
    assert difference(ours, naive_gradient(policy, groups, objective)) < TOLERANCE


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_checkpointing_changes_nothing(tiny_folder: Callable[[str], Path], method: str) -> None:
    """Prevents: recomputation that loses the attention plan, or an adapter that is off in it because it was off for the reference."""
    groups, objective = ragged_groups(3), ObjectiveConfig(beta=0.1)
    policies = []
    for saving_memory in (False, True):
        torch.manual_seed(0)  # adapters are drawn
        policy = load_tiny(tiny_folder("qwen3"), method=method, lora_rank=4, gradient_checkpointing=saving_memory)
        policies.append(policy)
        if method == "lora":
            stir_adapter(policy, scale=0.1)
        else:
            policy.set_reference(copy.deepcopy(policy.model))
            nudge(policy, 0.03)
    plain, saving = policies
    saving.model.train()
    assert any(getattr(module, "gradient_checkpointing", False) for module in saving.model.modules())
    assert difference(heron_gradient(saving, groups, objective)[0], heron_gradient(plain, groups, objective)[0]) < 1e-6


def test_the_settings_matter(make_policy: Any) -> None:
    """Guards the tests above: no two of these objectives have one gradient, so agreeing with the textbook says something."""
    policy, groups = make_policy(), ragged_groups(3)
    objectives = [ObjectiveConfig(loss_type=kind, beta=beta, mask_truncated_completions=mask)
                  for kind, beta, mask in itertools.product(("grpo", "dapo", "dr_grpo"), (0.0, 0.1), (False, True))]
    gradients = [heron_gradient(policy, groups, objective)[0] for objective in objectives]
    for left, right in itertools.combinations(gradients, 2):
        assert difference(left, right) > 1e-3


def test_masked_rows_stay_in_the_count_of_rows(make_policy: Any) -> None:
    """Masking half of the rows must not double the weight of the others in the losses that divide by rows."""
    policy, groups = make_policy(), ragged_groups(3)
    counts = [len(r.completion_ids) for group in groups for r in group.rollouts]
    masked = ObjectiveConfig(loss_type="grpo", mask_truncated_completions=True)
    samples = make_samples(groups, loss_type="grpo", max_completion_length=MAX_LENGTH, mask_truncated=True, keep_all=True)
    kept = [sample for siblings in samples for sample in siblings]
    assert 0 < len(kept) < len(counts)
    assert all(sample.weight == pytest.approx(1 / (len(counts) * len(sample.token_ids))) for sample in kept)
    assert heron_gradient(policy, groups, masked)[1].tokens == sum(len(s.token_ids) for s in kept if s.advantage)


def test_reference_of_lora_is_the_base_model(make_policy: Any) -> None:
    """Prevents: a reference that still has the adapter (KL always 0), or an adapter left off after the reference was computed."""
    policy, groups = make_policy("lora"), ragged_groups(3)
    _, stats, seen = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert stats.kl / stats.tokens > 1e-3
    _, again, seen_again = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert again.kl == stats.kl
    assert all(torch.equal(a, b) for a, b in zip(seen, seen_again, strict=True))
    with torch.no_grad():
        for name, weight in policy.trainable():
            if "lora_B" in name:
                weight.zero_()
    _, untouched, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert untouched.kl == pytest.approx(0.0, abs=1e-6)


def test_reference_of_full_training_is_a_frozen_copy(make_policy: Any) -> None:
    """Prevents: a reference that shares memory with the trained weights, or that collects gradients."""
    policy, groups = make_policy(moved=0.0), ragged_groups(3)
    _, start, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert start.kl == pytest.approx(0.0, abs=1e-6)
    nudge(policy, 0.05)
    _, moved, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert moved.kl / moved.tokens > 1e-3
    assert all(weight.grad is None for weight in policy.reference.model.parameters())


def test_loss_of_step_is_what_was_minimised(make_policy: Any) -> None:
    """The logged loss is the textbook's loss, summed over micro-batches, not their mean."""
    policy, groups = make_policy(), ragged_groups(3)
    objective = ObjectiveConfig(loss_type="grpo", beta=0.1)
    _, stats, _ = heron_gradient(policy, groups, objective, budget=1)
    wide, fixed = in_float64(policy.model), in_float64(policy.reference.model)
    with torch.no_grad():
        logprobs = naive_logprobs(wide, groups)
        expected = naive_loss(logprobs, logprobs, naive_logprobs(fixed, groups), groups, loss_type="grpo", objective=objective)
    assert stats.loss == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
