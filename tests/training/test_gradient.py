"""The gradient of a whole optimizer step against a naive implementation in float64, through the model.

Prevents: a wrong weight, shift, mask, ratio, KL, entropy, correction or temperature anywhere between groups and `.grad`. The naive
side is `naive.py` and `naive_loss.py`. Every option meets every other in at least one case, on the first pass over a batch and on a
second one, in which the weights have moved and clips bite.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import TEMPERATURE, Gradient, Textbook, difference, heron_gradient, in_float64, naive_forward, naive_logprobs, nudge, weighing
from pairwise import Combination, pairwise
from tinymodels import KINDS, as_sampled, load_tiny, ragged_groups, stir_adapter, with_second_turns, with_shared_beginnings
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heron.config.objective import LOSS_TYPES, ObjectiveConfig
from heron.models import Policy
from heron.training.samples import make_samples
from heron.types import Group

TOLERANCE = 1e-5
CLIPS = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "gspo")
OWN_RATIO = ("gspo", "vespo", "gmpo", "rloo", "reinforce")
OPTIONS = {
    "method": ("full", "lora"), "stage": ("first", "second"), "loss_type": LOSS_TYPES, "level": ("token", "sequence"),
    "kl": (None, ("k2", False), ("k3", False), ("k1", True), ("k3", True)), "delta": (None, 1.25), "quantile": (1.0, 0.4),
    "entropy": (0.0, 0.05), "opsm": (None, 0.02), "mask": (False, True),
    "correction": ("none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_truncate", "geometric_mask"),
}


def is_allowed(case: Combination) -> bool:
    return (case["delta"] is None or case["loss_type"] in CLIPS) and (case["level"] == "token" or case["loss_type"] not in OWN_RATIO)


CASES = pairwise(OPTIONS, is_allowed)


def objective_of_case(case: Combination) -> ObjectiveConfig:
    """Clips so narrow that they bite."""
    estimator, corrected = case["kl"] or ("k3", False)
    low, high = (0.97, 1.05) if case["correction"].startswith("geometric") else (0.7, 1.3)
    return ObjectiveConfig(
        loss_type=case["loss_type"], importance_sampling_level=case["level"], epsilon=0.1,
        epsilon_high=1.1 if case["loss_type"] == "cispo" else 0.15, delta=case["delta"], beta=0.1 if case["kl"] else 0.0,
        kl_estimator=estimator, use_bias_correction_kl=corrected, top_entropy_quantile=case["quantile"], entropy_coef=case["entropy"],
        off_policy_mask_threshold=case["opsm"], mask_truncated_completions=case["mask"], importance_sampling_correction=case["correction"],
        importance_sampling_clip_min=low, importance_sampling_clip_max=high,
    )


@pytest.fixture(scope="module")
def make_policy(tiny_folder: Callable[[str], Path]) -> Callable[..., Policy]:
    """A fresh policy that has moved away from its reference, as after some steps."""

    def make(method: str = "full", kind: str = "qwen3", *, moved: float = 0.03) -> Policy:
        torch.manual_seed(0)  # adapters are drawn
        policy = load_tiny(tiny_folder(kind), method=method, lora_rank=4)
        if method == "lora":
            stir_adapter(policy, scale=0.1)
        else:
            policy.set_reference(copy.deepcopy(policy.model))
            nudge(policy, moved)
        return policy

    return make


@dataclass(frozen=True, slots=True)
class Stage:
    """A policy before its first, or before its second optimizer step on some rollouts."""

    policy: Policy
    groups: list[Group]
    textbook: Textbook
    old: dict[tuple[bool, bool], list[Tensor] | None]
    """Heron's old log-probs by micro-batch; which rows are packed depends on (all are kept, truncated ones are masked)."""

    def compare(self, objective: ObjectiveConfig) -> tuple[float, dict[str, float]]:
        """The relative error of Heron's gradient, and what it measured."""
        settings = weighing(objective)
        old = self.old[settings.keep_all, settings.mask_truncated]
        ours, stats, _ = heron_gradient(self.policy, self.groups, objective, old=old)
        return difference(ours, self.textbook.gradient(objective)), stats.metrics()


def make_stage(policy: Policy, number: str, *, seed: int = 4) -> Stage:
    groups = ragged_groups(seed, shape=(7, 6, 2), flat=(2,), truncated=0.5)
    with torch.no_grad():
        before = naive_logprobs(in_float64(policy.model), groups)
    groups = as_sampled(groups, before, gap=0.1)
    kinds = list(itertools.product((False, True), repeat=2))
    if number == "first":
        return Stage(policy, groups, Textbook(policy, groups), dict.fromkeys(kinds))
    old = {(keep, mask): heron_gradient(policy, groups, ObjectiveConfig(mask_truncated_completions=mask), keep_all=keep)[2]
           for keep, mask in kinds}
    nudge(policy, 0.05, seed=2)
    return Stage(policy, groups, Textbook(policy, groups, old=before), {**old})


@pytest.fixture(scope="module")
def stage(make_policy: Callable[..., Policy]) -> Callable[[str, str], Stage]:
    made: dict[tuple[str, str], Stage] = {}

    def get(method: str, number: str) -> Stage:
        if (method, number) not in made:
            made[method, number] = make_stage(make_policy(method), number)
        return made[method, number]

    return get


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value) for value in case.values()))
def test_gradient_equals_textbook(stage: Callable[[str, str], Stage], case: Combination) -> None:
    error, metrics = stage(case["method"], case["stage"]).compare(objective_of_case(case))
    assert error < TOLERANCE
    assert case["stage"] == "second" or metrics["ratio/max"] == 1.0, "on the first pass the ratio is 1, not almost 1"


def test_every_pair_of_options_has_a_case() -> None:
    """Guards the test above: prevents a list of cases that shrinks unnoticed."""
    for left, right in itertools.combinations(OPTIONS, 2):
        seen = {(case[left], case[right]) for case in CASES}
        excluded = 0 if {left, right} != {"loss_type", "level"} else len(OWN_RATIO)
        excluded += 0 if {left, right} != {"loss_type", "delta"} else len(LOSS_TYPES) - len(CLIPS)
        assert len(seen) == len(OPTIONS[left]) * len(OPTIONS[right]) - excluded, (left, right)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_settings_matter(stage: Callable[[str, str], Stage], method: str) -> None:
    """Guards the tests above: on the second pass no two objectives have one gradient, so agreeing with the textbook says something."""
    textbook = stage(method, "second").textbook
    start = {name: values[0] for name, values in OPTIONS.items()}
    cases = [start | {"loss_type": kind} for kind in LOSS_TYPES if kind != "bnpo"]  # bnpo is dapo, but for TRL's way of counting
    cases += [start | {"loss_type": kind, "level": "sequence"} for kind in LOSS_TYPES if kind not in ("grpo", "bnpo", *OWN_RATIO)]
    for name, values in OPTIONS.items():
        if name not in ("method", "stage", "loss_type", "level"):
            cases += [start | {"loss_type": kind, name: value} for kind in ("dapo", "gspo") for value in values[1:]]
    gradients = torch.stack([flat(textbook.gradient(objective_of_case(case))) for case in cases])
    assert gradients.isfinite().all()
    apart = torch.cdist(gradients, gradients) / gradients.norm(dim=1)
    alike = [(i, j) for i, j in itertools.combinations(range(len(cases)), 2) if apart[i, j] < 1e-3]
    assert [[{name: (cases[i][name], cases[j][name]) for name in OPTIONS if cases[i][name] != cases[j][name]}] for i, j in alike] == []


def flat(gradient: Gradient) -> Tensor:
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qwen3"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_families_equal_textbook(make_policy: Callable[..., Policy], kind: str, method: str) -> None:
    """Prevents: a family whose head, norm, logit scale, soft-cap or sliding window is read differently while training."""
    policy = make_policy(method, kind)
    first = make_stage(policy, "first", seed=7)
    objective = ObjectiveConfig(beta=0.1, entropy_coef=0.05, epsilon=0.1)
    assert first.compare(objective)[0] < TOLERANCE
    error, metrics = make_stage(policy, "second", seed=7).compare(objective)
    assert error < TOLERANCE
    assert metrics["clip_ratio/low_mean"] > 0 and metrics["clip_ratio/high_mean"] > 0, "the test must exercise both clips"


@pytest.mark.parametrize("change", [with_shared_beginnings, with_second_turns])
@pytest.mark.parametrize("kind", ["qwen3", "qwen2-window"])
def test_trees_and_turns_equal_textbook(make_policy: Callable[..., Policy], kind: str, change: Callable[..., list[Group]]) -> None:
    """Prevents: a gradient that is counted once where siblings share a token; replies of an environment that are trained on."""
    policy = make_policy("full", kind)
    groups = change(ragged_groups(4, shape=(7, 6)))
    objective = ObjectiveConfig(loss_type="gspo", beta=0.1, entropy_coef=0.05, top_entropy_quantile=0.6)
    with torch.no_grad():
        groups = as_sampled(groups, naive_logprobs(in_float64(policy.model), groups), gap=0.1)
    ours, stats, _ = heron_gradient(policy, groups, objective, budget=1 << 20, old_is_sampler=True)
    assert difference(ours, Textbook(policy, groups).gradient(objective, old_is_sampler=True)) < TOLERANCE
    assert stats.num_tokens == sum(len(rollout.completion_ids) for group in groups for rollout in group.rollouts)


class Narrow(TorchFunctionMode):
    """Lists what is computed from weights in less than float64."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.requires_grad and made.dtype != torch.float64:
            self.found.append(str(function))
        return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_textbook_is_float64_throughout(make_policy: Callable[..., Policy], kind: str) -> None:
    """Guards the tests above: prevents a norm that goes through float32 on both sides, so that both are equally wrong."""
    policy = make_policy("full", kind)
    wide = in_float64(policy.model)
    with Narrow() as narrow:
        naive_logprobs(wide, ragged_groups(3))
    assert narrow.found == []
    with torch.no_grad():
        (exact, _), *_ = naive_forward(wide, ragged_groups(3, shape=(2,)))
        rollout = ragged_groups(3, shape=(2,))[0].rollouts[0]
        ids = torch.tensor([[*rollout.turns[0].prompt_ids, *rollout.completion_ids]])
        usual = (wide(input_ids=ids).logits[0, -len(exact) - 1 : -1] / TEMPERATURE).log_softmax(-1)
    torch.testing.assert_close(exact, usual.gather(-1, ids[0, -len(exact) :, None])[:, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_checkpointing_changes_nothing(tiny_folder: Callable[[str], Path], method: str) -> None:
    """Prevents: recomputation that loses the attention plan, or an adapter that is off in it because it was off for the reference."""
    groups, objective = ragged_groups(3), ObjectiveConfig(beta=0.1, entropy_coef=0.05)
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


def test_masked_rows_stay_in_the_count_of_rows(make_policy: Any) -> None:
    """Masking half of the rows must not double the weight of the others in the losses that divide by rows."""
    policy, groups = make_policy(), ragged_groups(3)
    counts = [len(r.completion_ids) for group in groups for r in group.rollouts]
    masked = ObjectiveConfig(loss_type="grpo", mask_truncated_completions=True)
    samples = make_samples(groups, weighing(masked, keep_all=True))
    kept = [sample for siblings in samples for sample in siblings]
    assert 0 < len(kept) < len(counts)
    assert all(sample.weight == pytest.approx(1 / (len(counts) * len(sample.token_ids))) for sample in kept)
    assert heron_gradient(policy, groups, masked)[1].num_tokens == sum(len(s.token_ids) for s in kept if s.advantage)


def test_reference_of_lora_is_the_base_model(make_policy: Any) -> None:
    """Prevents: a reference that still has the adapter (KL always 0), or an adapter left off after the reference was computed."""
    policy, groups = make_policy("lora"), ragged_groups(3)
    _, stats, seen = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert stats.metrics()["kl"] > 1e-3
    _, again, seen_again = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert again.metrics()["kl"] == stats.metrics()["kl"]
    assert all(torch.equal(a, b) for a, b in zip(seen, seen_again, strict=True))
    with torch.no_grad():
        for name, weight in policy.trainable():
            if "lora_B" in name:
                weight.zero_()
    _, untouched, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert untouched.metrics()["kl"] == pytest.approx(0.0, abs=1e-6)


def test_reference_of_full_training_is_a_frozen_copy(make_policy: Any) -> None:
    """Prevents: a reference that shares memory with the trained weights, or that collects gradients."""
    policy, groups = make_policy(moved=0.0), ragged_groups(3)
    _, start, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert start.metrics()["kl"] == pytest.approx(0.0, abs=1e-6)
    nudge(policy, 0.05)
    _, moved, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.1))
    assert moved.metrics()["kl"] > 1e-3
    assert all(weight.grad is None for weight in policy.reference.model.parameters())


def test_loss_of_step_is_what_was_minimised(make_policy: Any) -> None:
    """The logged loss is the textbook's loss, summed over micro-batches, not their mean."""
    policy, groups = make_policy(), ragged_groups(3)
    objective = ObjectiveConfig(loss_type="grpo", beta=0.1, entropy_coef=0.05)
    _, stats, _ = heron_gradient(policy, groups, objective, budget=1)
    assert stats.metrics()["loss"] == pytest.approx(float(Textbook(policy, groups).loss(objective).detach()), rel=1e-4, abs=1e-6)
