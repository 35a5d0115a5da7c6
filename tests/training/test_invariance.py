"""Configurations that must give one gradient, for every loss: how a step is cut, ordered and pruned is not allowed to matter.

The model is in float64, where a small mistake cannot hide behind rounding. Spreading a step over ranks: `test_ranks.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from naive import Gradient, difference, heron_gradient, in_float64, naive_logprobs, nudge, weighing
from tinymodels import as_sampled, load_tiny, ragged_groups, stir_adapter, with_shared_beginnings

from heron.config.objective import LOSS_TYPES, ObjectiveConfig
from heron.models import Policy
from heron.training.batch import pack
from heron.training.samples import make_samples
from heron.types import Group

CPU = torch.device("cpu")
GROUPS = ragged_groups(11, shape=(5, 3, 2, 4), flat=(2,))
WHOLE = 1 << 20
TOLERANCE = 5e-7
"""What is left is the order of additions: norms go through float32 in every family."""


@dataclass(frozen=True, slots=True)
class Case:
    """A policy in float64, and groups that it sampled, roughly."""

    policy: Policy
    groups: list[Group]

    def gradient(self, objective: ObjectiveConfig, groups: list[Group] | None = None, *, budget: int = 40) -> Gradient:
        """Off-policy: old log-probs are the sampler's, so that ratios, clips and corrections have something to do."""
        chosen = self.groups if groups is None else groups
        return heron_gradient(self.policy, chosen, objective, budget=budget, old_is_sampler=True)[0]


@pytest.fixture(scope="module", params=["full", "lora"])
def policy(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Policy:
    made = load_tiny(tiny_folder("qwen3"), method=request.param, lora_rank=4)
    if request.param == "lora":
        stir_adapter(made, scale=0.1)
    else:
        made.set_reference(copy.deepcopy(made.model).double())
        nudge(made, 0.03)
    made.model.double()
    return made


@pytest.fixture(scope="module")
def case(policy: Policy) -> Case:
    return Case(policy, sampled_by(policy, GROUPS))


def sampled_by(policy: Policy, groups: list[Group]) -> list[Group]:
    with torch.no_grad():
        return as_sampled(groups, naive_logprobs(in_float64(policy.model), groups), gap=0.1)


def objective_of(loss_type: str, **settings: object) -> ObjectiveConfig:
    """Everything that masks, clips and counts, at once."""
    return ObjectiveConfig(
        loss_type=loss_type, epsilon=0.05, epsilon_high=1.1 if loss_type == "cispo" else 0.08, off_policy_mask_threshold=0.02,
        top_entropy_quantile=0.6, **{"mask_truncated_completions": True, **settings},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_micro_batches_do_not_matter(case: Case, loss_type: str) -> None:
    """Prevents: averaging over micro-batches, or counts taken per micro-batch (the old gradient accumulation bug)."""
    objective = objective_of(loss_type, beta=0.1, entropy_coef=0.05)
    whole = case.gradient(objective, budget=WHOLE)
    for budget in (1, 17, 30):
        assert difference(case.gradient(objective, budget=budget), whole) < TOLERANCE, budget


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_one_by_eight_two_by_four_eight_by_one(case: Case, loss_type: str) -> None:
    """The table of the old bug: eight rows in one, two and eight micro-batches; the corrected ratio is that of the first pass."""
    groups = sampled_by(case.policy, ragged_groups(5, shape=(4, 4), truncated=0.0))
    objective = objective_of(loss_type, importance_sampling_correction="token_truncate", importance_sampling_clip_max=1.05)
    sizes = [len(group.rollouts[0].turns[0].prompt_ids) + sum(len(r.completion_ids) - 1 for r in group.rollouts) for group in groups]
    found = [heron_gradient(case.policy, groups, objective, budget=budget) for budget in (sum(sizes), max(sizes), 1)]
    assert [len(old) for _, _, old in found] == [1, 2, 8]
    assert difference(found[1][0], found[0][0]) < TOLERANCE
    assert difference(found[2][0], found[0][0]) < TOLERANCE
    losses = [stats.metrics()["loss"] for _, stats, _ in found]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_order_of_groups_and_siblings_does_not_matter(case: Case, loss_type: str) -> None:
    """Prevents: weights, advantages, masks or entropies that are handed to the wrong row."""
    objective = objective_of(loss_type, entropy_coef=0.05)
    whole = case.gradient(objective)
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        shuffled = [replace(case.groups[number], rollouts=case.groups[number].rollouts[::-1]) for number in order]
        assert difference(case.gradient(objective, shuffled), whole) < TOLERANCE, order


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_rows_without_advantage_may_be_left_out(case: Case, loss_type: str) -> None:
    """Prevents: rows that are dropped from the counts too, which would raise the weight of all the others."""
    objective = objective_of(loss_type, mask_truncated_completions=False)
    lean, full = (
        heron_gradient(case.policy, case.groups, objective, keep_all=keep_all, old_is_sampler=True) for keep_all in (False, True)
    )
    assert lean[1].num_tokens < full[1].num_tokens, "the test needs rows without advantage"
    assert difference(lean[0], full[0]) < TOLERANCE
    assert not weighing(objective).keep_all, "the trainer leaves them out"


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_prompt_shared_by_siblings_equals_prompt_repeated(case: Case, loss_type: str) -> None:
    """Prevents: siblings that see one another, gradients through the shared prompt, or a shared beginning, that are counted once."""
    groups = sampled_by(case.policy, with_shared_beginnings(GROUPS))
    objective = objective_of(loss_type)
    assert difference(case.gradient(objective, groups, budget=WHOLE), case.gradient(objective, groups, budget=1)) < TOLERANCE


def test_alone_means_alone(case: Case) -> None:
    """Guards the tests above: the smallest budget gives every row that is trained on a micro-batch of its own."""
    trained = [rollout for group in GROUPS for rollout in group.rollouts if rollout.advantage]
    assert len(heron_gradient(case.policy, GROUPS, ObjectiveConfig(), budget=1)[2]) == len(trained)


@pytest.mark.parametrize("settings", [{"beta": 0.1}, {"entropy_coef": 0.1}, {"use_adaptive_entropy": True, "num_iterations": 2}])
def test_rows_without_advantage_are_kept_where_they_move_something(settings: dict[str, object]) -> None:
    """A KL or an entropy term moves every row: leaving out those without advantage would be wrong there."""
    kept = make_samples(GROUPS, weighing(ObjectiveConfig(**settings)))  # type: ignore[arg-type]
    assert sum(len(siblings) for siblings in kept) == sum(len(group.rollouts) for group in GROUPS)


def test_padding_of_grids_does_not_leak(case: Case) -> None:
    """Rows of very different lengths share a grid's padding; a value there must not reach any output."""
    mixed = sampled_by(case.policy, [*ragged_groups(2, shape=(2,)), *ragged_groups(4, shape=(6,))])
    objective = objective_of("dr_grpo")
    assert difference(case.gradient(objective, mixed, budget=WHOLE), case.gradient(objective, mixed, budget=1)) < TOLERANCE


class TestPacking:
    """What `pack` makes of samples."""

    @staticmethod
    def samples(groups: list[Group]) -> list:
        return make_samples(groups, weighing(ObjectiveConfig(), keep_all=True))

    @pytest.mark.parametrize("budget", [1, 10, 20, 33, 64, 1000])
    def test_every_trained_token_occurs_once_within_budget(self, budget: int) -> None:
        """Prevents: tokens that are lost or doubled where a group is cut, and micro-batches that exceed the memory dial."""
        samples = self.samples(GROUPS)
        batches = pack(samples, budget=budget, device=CPU)
        wanted = sorted(token for siblings in samples for sample in siblings for token in sample.token_ids)
        assert sorted(token for batch in batches for token in batch.targets.tolist()) == wanted
        longest = max(len(s.prompt_ids) + len(s.token_ids) - 1 for siblings in samples for s in siblings)
        assert all(batch.num_tokens <= max(budget, longest) for batch in batches)
        assert sum(float(batch.weights.sum()) for batch in batches) == pytest.approx(1.0)

    def test_prompt_is_forwarded_once_for_all_siblings(self) -> None:
        """The point of packing: G siblings cost one prompt."""
        group = [GROUPS[0]]
        (batch,) = pack(self.samples(group), budget=1 << 20, device=CPU)
        prompt = len(group[0].rollouts[0].turns[0].prompt_ids)
        answers = [len(rollout.completion_ids) for rollout in group[0].rollouts]
        assert batch.num_tokens == prompt + sum(answers) - len(answers)

    def test_positions_restart_behind_the_prompt(self) -> None:
        """Prevents: a sibling whose rotary positions go on where the one before it ended."""
        (batch,) = pack(self.samples([GROUPS[0]]), budget=1 << 20, device=CPU)
        prompt = len(GROUPS[0].rollouts[0].turns[0].prompt_ids)
        expected = list(range(prompt))
        for rollout in GROUPS[0].rollouts:
            expected += range(prompt, prompt + len(rollout.completion_ids) - 1)
        assert batch.positions[0].tolist() == expected

    def test_predicting_token_stands_before_its_target(self) -> None:
        """Prevents: a shift by one, or a first token that is predicted from a sibling's last one."""
        (batch,) = pack(self.samples(GROUPS), budget=1 << 20, device=CPU)
        ids, found = batch.token_ids[0].tolist(), iter(zip(batch.where.tolist(), batch.targets.tolist(), strict=True))
        for group in GROUPS:
            for rollout in group.rollouts:
                last = rollout.turns[0].prompt_ids[-1]
                for token in rollout.completion_ids:
                    where, target = next(found)
                    assert (ids[where], target) == (last, token)
                    last = token

    def test_nothing_to_train_on_makes_no_batches(self) -> None:
        """A step whose groups are all equal is no error, and no forward pass."""
        flat = ragged_groups(1, shape=(3, 3), flat=(0, 1))
        samples = make_samples(flat, weighing(ObjectiveConfig()))
        assert samples == []
        assert pack(samples, budget=100, device=CPU) == []

    def test_all_rows_truncated_and_masked(self) -> None:
        """Every count is 0 then; prevents a division by zero."""
        cut = ragged_groups(1, shape=(3, 3), truncated=1.0)
        for loss_type in LOSS_TYPES:
            objective = ObjectiveConfig(loss_type=loss_type, epsilon_high=5.0, mask_truncated_completions=True)
            assert make_samples(cut, weighing(objective, keep_all=True)) == []


def test_measurements_do_not_depend_on_the_cut(policy: Policy) -> None:
    """Prevents: metrics that are means of micro-batch means."""
    objective = ObjectiveConfig(epsilon=0.1)
    one, whole = (heron_gradient(policy, GROUPS, objective, budget=budget)[1] for budget in (1, 1 << 20))
    assert one.metrics() == pytest.approx(whole.metrics(), rel=1e-5, abs=1e-6)
