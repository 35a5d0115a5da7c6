"""The groups of a step divided among its optimizer steps, weighed and packed.

The one hard idea: tokens are counted over the whole step before it is divided, so how it is divided changes no token's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from heron.models.policy import Policy
from heron.training.passes import Minibatch
from heron.training.samples import Weighing, loss_tokens, make_samples, mean_kept_entropy
from heron.training.statistics import max_lag
from heron.types import Group


class Witness(Protocol):
    """Who looks at a minibatch before its first forward pass."""

    def of_minibatch(self, groups: Sequence[Group], minibatch: Minibatch, weighing: Weighing) -> None:
        """Raises if it cannot be right."""
        ...


def divided(
    groups: Sequence[Group], weighing: Weighing, *, policy: Policy, budget: int, entropy_of: Weighing | None = None,
    witness: Witness | None = None,
) -> list[Minibatch]:
    """A minibatch for each optimizer step of a pass, all of as many groups.

    Args:
        groups: of the step.
        weighing: how its tokens are counted.
        policy: is trained on them.
        budget: packed tokens of a micro-batch.
        entropy_of: measure the entropy of the tokens that this weighing keeps; None where nobody asks.
        witness: sees each of them.
    """
    size = len(groups) // weighing.num_minibatches
    parts = [groups[part * size : (part + 1) * size] for part in range(weighing.num_minibatches)]
    batch_tokens = sum(loss_tokens(rollout, mask_truncated=weighing.mask_truncated) for group in groups for rollout in group.rollouts)
    minibatches = [
        Minibatch.packed(
            make_samples(part, weighing, batch_tokens=batch_tokens), budget=budget, device=policy.device,
            entropy=None if entropy_of is None else mean_kept_entropy(part, entropy_of), is_stale=max_lag(part, policy.version) > 0,
        )
        for part in parts
    ]
    if witness is not None:
        for part, minibatch in zip(parts, minibatches, strict=True):
            witness.of_minibatch(part, minibatch, weighing)
    return minibatches
