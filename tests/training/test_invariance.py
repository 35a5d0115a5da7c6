"""Configurations that must give one gradient: how a step is cut, ordered and pruned is not allowed to matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from naive import MAX_LENGTH, difference, heron_gradient
from tinymodels import load_tiny, ragged_groups, stir_adapter

from heron.config.schema import ObjectiveConfig
from heron.models import Policy
from heron.training.batch import make_samples, pack
from heron.types import Group

LOSS_TYPES = ("grpo", "bnpo", "dapo", "dr_grpo")
CPU = torch.device("cpu")
GROUPS = ragged_groups(11, shape=(5, 3, 2, 4), flat=(2,))


@pytest.fixture(params=["full", "lora"])
def policy(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Policy:
    made = load_tiny(tiny_folder("qwen3"), method=request.param, lora_rank=4)
    if request.param == "lora":
        stir_adapter(made, scale=0.1)
    made.model.double()  # rounding in float32 is 1e-6 by itself, and would hide a small mistake
    return made


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_micro_batches_do_not_matter(policy: Policy, loss_type: str) -> None:
    """Prevents: averaging over micro-batches, or counts taken per micro-batch (the old gradient accumulation bug)."""
    objective = ObjectiveConfig(loss_type=loss_type, mask_truncated_completions=True)
    whole, whole_stats, _ = heron_gradient(policy, GROUPS, objective, budget=1 << 20)
    for budget in (1, 17, 30):
        part, stats, passes = heron_gradient(policy, GROUPS, objective, budget=budget)
        assert len(passes) > 1
        assert difference(part, whole) < 1e-7, budget
        assert stats.loss == pytest.approx(whole_stats.loss, abs=1e-6)
        assert stats.tokens == whole_stats.tokens


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_order_of_groups_and_siblings_does_not_matter(policy: Policy, loss_type: str) -> None:
    """Prevents: weights or advantages that are handed to the wrong row."""
    objective = ObjectiveConfig(loss_type=loss_type, mask_truncated_completions=True)
    whole, _, _ = heron_gradient(policy, GROUPS, objective)
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        shuffled = [replace(GROUPS[number], rollouts=GROUPS[number].rollouts[::-1]) for number in order]
        assert difference(heron_gradient(policy, shuffled, objective)[0], whole) < 1e-7, order


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_rows_without_advantage_may_be_left_out(policy: Policy, loss_type: str) -> None:
    """Prevents: rows that are dropped from the counts too, which would raise the weight of all the others."""
    objective = ObjectiveConfig(loss_type=loss_type)
    lean, lean_stats, _ = heron_gradient(policy, GROUPS, objective, keep_all=False)
    full, full_stats, _ = heron_gradient(policy, GROUPS, objective, keep_all=True)
    assert lean_stats.tokens < full_stats.tokens, "the test needs rows without advantage"
    assert difference(lean, full) < 1e-7


def test_rows_without_advantage_are_kept_for_the_kl(policy: Policy) -> None:
    """A KL term moves every row: leaving out those without advantage would be wrong there."""
    kept = make_samples(GROUPS, loss_type="dapo", max_completion_length=MAX_LENGTH, mask_truncated=False, keep_all=True)
    assert sum(len(siblings) for siblings in kept) == sum(len(group.rollouts) for group in GROUPS)


def test_prompt_shared_by_siblings_equals_prompt_repeated(policy: Policy) -> None:
    """Prevents: siblings that see one another, and gradients through the shared prompt that are counted once."""
    objective = ObjectiveConfig()
    shared, _, _ = heron_gradient(policy, GROUPS, objective, budget=1 << 20)
    alone, _, passes = heron_gradient(policy, GROUPS, objective, budget=1)
    assert len(passes) == sum(bool(rollout.advantage) for group in GROUPS for rollout in group.rollouts)
    assert difference(shared, alone) < 1e-7


def test_padding_of_grids_does_not_leak(policy: Policy) -> None:
    """Rows of very different lengths share a grid's padding; a value there must not reach any output."""
    long = ragged_groups(2, shape=(2,))
    mixed = [*long, *ragged_groups(4, shape=(6,))]
    objective = ObjectiveConfig(loss_type="dr_grpo")
    together, _, _ = heron_gradient(policy, mixed, objective, budget=1 << 20)
    apart, _, _ = heron_gradient(policy, mixed, objective, budget=1)
    assert difference(together, apart) < 1e-7


class TestPacking:
    """What `pack` makes of samples."""

    @staticmethod
    def samples(groups: list[Group]) -> list:
        return make_samples(groups, loss_type="dapo", max_completion_length=MAX_LENGTH, mask_truncated=False, keep_all=True)

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
        samples = make_samples(flat, loss_type="dapo", max_completion_length=MAX_LENGTH, mask_truncated=False, keep_all=False)
        assert samples == []
        assert pack(samples, budget=100, device=CPU) == []

    def test_all_rows_truncated_and_masked(self) -> None:
        """Every count is 0 then; prevents a division by zero."""
        cut = ragged_groups(1, shape=(3, 3), truncated=1.0)
        for loss_type in LOSS_TYPES:
            assert make_samples(cut, loss_type=loss_type, max_completion_length=MAX_LENGTH, mask_truncated=True, keep_all=True) == []


def test_measurements_do_not_depend_on_the_cut(policy: Policy) -> None:
    """Prevents: metrics that are means of micro-batch means."""
    objective = ObjectiveConfig(epsilon=0.1)
    one, whole = (heron_gradient(policy, GROUPS, objective, budget=budget)[1] for budget in (1, 1 << 20))
    assert one.metrics(with_kl=False) == pytest.approx(whole.metrics(with_kl=False), rel=1e-5, abs=1e-6)
    assert one.gap_sum > 0
