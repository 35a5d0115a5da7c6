"""Two processes that share an optimizer step have the gradient of one that does it alone, however unevenly they share it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import difference, in_float64, naive_logprobs, weighing
from tinymodels import as_sampled, ragged_groups
from torch import multiprocessing
from two_ranks import Work, gradient, main, ready_policy, updated

from heron.config.objective import LOSS_TYPES, ObjectiveConfig
from heron.models import Policy
from heron.training import ranks
from heron.training.samples import mean_kept_entropy
from heron.types import Group

TOLERANCE = 5e-7
SPLITS = ("uneven", "idle")
OBJECTIVES = {
    kind: ObjectiveConfig(
        loss_type=kind, epsilon=0.05, epsilon_high=1.1 if kind == "cispo" else 0.08, top_entropy_quantile=0.6,
        mask_truncated_completions=True,
    ) for kind in LOSS_TYPES
} | {"bonus": ObjectiveConfig(loss_type="gspo", entropy_coef=0.1, beta=0.1, top_entropy_quantile=0.4)}


@pytest.fixture(scope="module")
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return ready_policy(tiny_folder("qwen3"))


@pytest.fixture(scope="module")
def groups(policy: Policy) -> list[Group]:
    """Five rows, two rows, and three without an advantage."""
    drawn = ragged_groups(13, shape=(5, 2, 3), flat=(2,))
    with torch.no_grad():
        return as_sampled(drawn, naive_logprobs(in_float64(policy.model), drawn), gap=0.1)


@pytest.fixture(scope="module")
def splits(groups: list[Group]) -> dict[str, tuple[list[Group], list[Group]]]:
    """The groups of rank 0 and of rank 1."""
    return {"uneven": (groups[:1], groups[1:2]), "idle": (groups[:2], groups[2:])}


@pytest.fixture(scope="module")
def found(
    splits: Any, tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What both processes found, in one go: starting them is what takes long."""
    work = Work(model=tiny_folder("qwen3"), objectives=OBJECTIVES, splits=splits, folder=tmp_path_factory.mktemp("ranks"))
    multiprocessing.spawn(main, args=(work,), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(work.folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_is_that_of_one_process(found: Any, policy: Policy, splits: Any, split: str, objective: str) -> None:
    """Prevents: counts, thresholds or gradients of one rank alone; averages over ranks, in which rows of a short rank count more."""
    first, second = splits[split]
    alone = gradient(policy, [*first, *second], OBJECTIVES[objective])
    for rank in (0, 1):
        assert difference(found[rank]["gradients"][split, objective], alone) < TOLERANCE


@pytest.mark.parametrize("split", SPLITS)
def test_weights_after_training_are_those_of_one_process(found: Any, tiny_folder: Any, splits: Any, split: str) -> None:
    """Prevents: a rank without rows that leaves the others waiting for its gradient, or keeps its old weights."""
    first, second = splits[split]
    alone = updated(ready_policy(tiny_folder("qwen3")), [*first, *second])
    start = dict(ready_policy(tiny_folder("qwen3")).trainable())
    moved = {name: weight - start[name].detach() for name, weight in alone.items()}
    for rank in (0, 1):
        here = {name: weight - start[name].detach() for name, weight in found[rank]["after"][split].items()}
        assert difference(here, moved) < 1e-5


@pytest.mark.parametrize("split", SPLITS)
def test_mean_entropy_is_over_all_ranks(found: Any, splits: Any, split: str) -> None:
    """Prevents: ranks that steer the entropy bonus apart."""
    first, second = splits[split]
    alone = mean_kept_entropy([*first, *second], weighing(ObjectiveConfig(top_entropy_quantile=0.4)))
    assert [found[rank]["entropy"][split] for rank in (0, 1)] == pytest.approx([alone, alone])


def test_counting_as_trl_is_refused_on_several_ranks(found: Any) -> None:
    """Its micro-batches of several ranks are not counted: prevents gradients that are too large by the number of ranks."""
    assert all("token_weights" in found[rank]["trl"] for rank in (0, 1))


def test_alone_nothing_is_communicated() -> None:
    """Prevents: a process group that a single process has to make."""
    weight = torch.nn.Parameter(torch.zeros(2))
    ranks.sum_gradients([weight])
    assert weight.grad is None
    assert ranks.total_of(3) == 3 and ranks.gathered([1.0]) == [1.0]
