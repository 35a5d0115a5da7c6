"""What each of two processes does in `test_ranks.py`. A file of its own, because processes that are spawned import it by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from naive import heron_gradient, nudge, weighing
from tinymodels import load_tiny
from torch import Tensor, distributed

from heron.config.objective import ObjectiveConfig
from heron.errors import ConfigError
from heron.models import Policy
from heron.objective import FixedEntropy
from heron.training import ranks
from heron.training.compiled import objective_of
from heron.training.passes import Minibatch
from heron.training.samples import make_samples, mean_kept_entropy
from heron.training.updater import Updater
from heron.types import Group

Split = tuple[Sequence[Group], Sequence[Group]]
COUNTED_AS_TRL = ObjectiveConfig(loss_type="grpo", token_weights="trl", rows_per_micro_batch=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Handed to both processes."""

    model: Path
    objectives: Mapping[str, ObjectiveConfig]
    splits: Mapping[str, Split]
    """The groups of rank 0 and of rank 1."""
    folder: Path
    """Where they meet, and where they leave what they found."""


def ready_policy(model: Path) -> Policy:
    """In float64, with a reference that it has moved away from."""
    policy = load_tiny(model)
    policy.model.double()
    policy.set_reference(copy.deepcopy(policy.model))
    nudge(policy, 0.03)
    return policy


def main(rank: int, work: Work) -> None:
    """Leaves `<rank>.pt`: gradients by (split, objective), weights after `Updater.run` by split, and refusals."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{work.folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    policy = ready_policy(work.model)
    gradients = {
        (split, name): gradient(policy, groups[rank], objective)
        for split, groups in work.splits.items() for name, objective in work.objectives.items()
    }
    entropy = {name: mean_kept_entropy(groups[rank], weighing(ObjectiveConfig(top_entropy_quantile=0.4)))
               for name, groups in work.splits.items()}
    after = {split: updated(ready_policy(work.model), groups[rank]) for split, groups in work.splits.items()}
    torch.save({"gradients": gradients, "entropy": entropy, "after": after, "trl": refusal(work.splits["uneven"][rank])},
               work.folder / f"{rank}.pt")
    distributed.destroy_process_group()


def gradient(policy: Policy, groups: Sequence[Group], objective: ObjectiveConfig) -> dict[str, Tensor]:
    """Of the whole step, summed over ranks; alone, of the groups."""
    heron_gradient(policy, groups, objective, old_is_sampler=True)
    ranks.sum_gradients(weight for _, weight in policy.trainable())
    return {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}


def updated(policy: Policy, groups: Sequence[Group]) -> dict[str, Tensor]:
    """The weights after two passes over the groups."""
    objective = ObjectiveConfig(loss_type="dapo")
    updater = Updater(
        policy=policy, optimizer=torch.optim.SGD([weight for _, weight in policy.trainable()], lr=0.01), objective=objective_of(objective),
        temperature=0.8, max_grad_norm=1.0, num_iterations=2,
    )
    minibatch = Minibatch.packed(make_samples(groups, weighing(objective)), budget=40, device=policy.device)
    assert updater.run([minibatch], FixedEntropy(), report=lambda done, total: None).steps == 2
    return {name: weight.detach() for name, weight in policy.trainable()}


def refusal(groups: Sequence[Group]) -> str:
    try:
        make_samples(groups, weighing(COUNTED_AS_TRL))
    except ConfigError as error:
        return str(error)
    return ""
