"""`token_weights = "trl"`: the gradient of an optimizer step as TRL accumulates it, micro-batch by micro-batch with their own counts.

The naive side divides each micro-batch's loss by that micro-batch's rows and tokens, and by TRL's numbers of micro-batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import MAX_LENGTH, Textbook, difference, heron_gradient, in_float64, naive_logprobs, nudge
from naive_loss import trl_step_loss
from small_runs import make_trainer, small_config
from tinymodels import as_sampled, load_tiny, ragged_groups

from heron.config.objective import LOSS_TYPES, ObjectiveConfig
from heron.errors import ConfigError
from heron.models import Policy
from heron.training.samples import Weighing, loss_tokens
from heron.training.trainer import Trainer
from heron.types import FinishReason, Group

TOLERANCE = 1e-5
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {}, "masked": {"mask_truncated_completions": True}, "entropy bonus": {"entropy_coef": 0.2},
    "top entropies": {"top_entropy_quantile": 0.4}, "both, masked": {
        "entropy_coef": 0.2, "top_entropy_quantile": 0.4, "mask_truncated_completions": True, "beta": 0.1},
}


@pytest.fixture(scope="module")
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    made = load_tiny(tiny_folder("qwen3"))
    made.set_reference(copy.deepcopy(made.model))
    nudge(made, 0.03)
    return made


@pytest.fixture(scope="module")
def groups(policy: Policy) -> list[Group]:
    """Sixteen rows, of which one group has no signal; the first micro-batch of two rows is truncated whole."""
    drawn = ragged_groups(17, shape=(4, 4, 4, 4), flat=(2,), truncated=0.4)
    first = drawn[0]
    cut = tuple(replace(r, turns=(replace(r.turns[0], completion=replace(r.turns[0].completion, finish_reason=FinishReason.LENGTH)),))
                for r in first.rollouts[:2])
    drawn[0] = replace(first, rollouts=(*cut, *first.rollouts[2:]))
    with torch.no_grad():
        return as_sampled(drawn, naive_logprobs(in_float64(policy.model), drawn), gap=0.1)


def trl(loss_type: str, *, rows: int = 2, minibatches: int = 1, **settings: Any) -> ObjectiveConfig:
    return ObjectiveConfig(
        loss_type=loss_type, epsilon=0.05, epsilon_high=1.1 if loss_type == "cispo" else 0.08, token_weights="trl",
        rows_per_micro_batch=rows, num_minibatches=minibatches, **settings,
    )


def error(policy: Policy, groups: list[Group], everything: list[Group], objective: ObjectiveConfig) -> float:
    """Relative, of an optimizer step on `groups`, which are one minibatch of `everything`."""
    rollouts = [rollout for group in everything for rollout in group.rollouts]
    tokens = sum(loss_tokens(rollout, mask_truncated=objective.mask_truncated_completions) for rollout in rollouts)
    ours, _, _ = heron_gradient(policy, groups, objective, old_is_sampler=True, batch_tokens=tokens)
    textbook = Textbook(policy, groups)
    rows = textbook.rows(objective, old_is_sampler=True)
    return difference(ours, textbook.gradient_of(trl_step_loss(rows, objective, max_length=MAX_LENGTH, generation_tokens=tokens)))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("option", ["plain", "both, masked"])
def test_every_loss_is_accumulated_as_trl_does(policy: Policy, groups: list[Group], loss_type: str, option: str) -> None:
    """Prevents: a denominator of the step where TRL takes the micro-batch's, or the other way round."""
    assert error(policy, groups, groups, trl(loss_type, **OPTIONS[option])) < TOLERANCE


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rows", [1, 4, 16])
@pytest.mark.parametrize("loss_type", ["bnpo", "dapo"])
def test_any_size_of_micro_batch(policy: Policy, groups: list[Group], loss_type: str, rows: int, option: str) -> None:
    """Prevents: thresholds, or counts of tokens and kept tokens, of the wrong rows."""
    assert error(policy, groups, groups, trl(loss_type, rows=rows, **OPTIONS[option])) < TOLERANCE


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("loss_type", ["bnpo", "dapo", "grpo"])
def test_two_minibatches(policy: Policy, groups: list[Group], loss_type: str, part: int, option: str) -> None:
    """dapo divides by the tokens of the average optimizer step, not of this one."""
    minibatch = groups[2 * part : 2 * part + 2]
    assert error(policy, minibatch, groups, trl(loss_type, minibatches=2, **OPTIONS[option])) < TOLERANCE


def test_the_switch_matters(policy: Policy, groups: list[Group]) -> None:
    """Guards the tests above: on these rows TRL's counts give other gradients, wherever they are said to."""
    def apart(loss_type: str, **settings: Any) -> float:
        counted = trl(loss_type, **settings)
        plain = replace(counted, token_weights="step", rows_per_micro_batch=None)
        part = groups[: 4 // counted.num_minibatches]
        ours, theirs = (heron_gradient(policy, part, each, old_is_sampler=True, batch_tokens=90)[0] for each in (counted, plain))
        return difference(ours, theirs)

    assert apart("bnpo") > 1e-2 and apart("dapo", minibatches=2) > 1e-2
    assert apart("grpo", entropy_coef=0.2) > 1e-2 and apart("grpo", top_entropy_quantile=0.4) > 1e-2
    assert apart("grpo") < 1e-6 and apart("luspo") < 1e-6


def test_the_trainer_hands_over_the_tokens_of_the_whole_batch(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: N_gen counted over a minibatch, which makes dapo's switch do nothing."""
    from heron.training import dividing as module

    objective = {"token_weights": "trl", "rows_per_micro_batch": 2, "num_minibatches": 2, "loss_type": "dapo"}
    trainer: Trainer = make_trainer(small_config(tiny_folder("qwen3"), objective=objective), tmp_path / "run")
    seen: list[tuple[int | None, int]] = []
    make_samples = module.make_samples

    def watched(part: list[Group], weighing: Weighing, *, batch_tokens: int | None = None) -> Any:
        seen.append((batch_tokens, sum(len(rollout.completion_ids) for group in part for rollout in group.rollouts)))
        return make_samples(part, weighing, batch_tokens=batch_tokens)

    monkeypatch.setattr(module, "make_samples", watched)
    trainer.step()
    assert [given for given, _ in seen] == [sum(own for _, own in seen)] * 2


def test_rows_that_do_not_fill_micro_batches_are_refused(policy: Policy, groups: list[Group]) -> None:
    """TRL never has a short micro-batch; prevents one being made up."""
    with pytest.raises(ConfigError, match="rows_per_micro_batch = 3"):
        heron_gradient(policy, groups, trl("bnpo", rows=3))
