"""A control for learning: the same rewards, handed to the wrong siblings.

The one hard idea: a uniformly random permutation within each group keeps every statistic of the rewards (means, spread, the share of
groups with signal, the size of the gradient), but makes advantage and completion independent, so there is nothing to learn. A
permutation that never leaves a reward in its place would not do: it is biased against the better answer.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from heron.types import Rollout

if TYPE_CHECKING:
    from heron.rewards import Rubric
    from heron.training.trainer import Trainer


def shuffle_training_rewards(trainer: Trainer, *, seed: int) -> None:
    """Make the trainer train on shuffled rewards. Its evaluator keeps the collector, and so the rubric, that it has."""
    rubric = trainer.collector.rubric
    assert rubric is not None, "a trainer has rewards"
    shuffled = ShuffledRubric(rubric, seed=seed)
    trainer.collector = dataclasses.replace(trainer.collector, rubric=shuffled)  # type: ignore[arg-type]


class ShuffledRubric:
    """A rubric whose scores are permuted among the siblings of each prompt."""

    def __init__(self, rubric: Rubric, *, seed: int) -> None:
        self.rubric = rubric
        self.names, self.weights = rubric.names, rubric.weights
        self.draw = random.Random(seed)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Rollouts in their order; siblings stand together."""
        groups = groupby(self.rubric.score(rollouts), key=lambda rollout: rollout.prompt.id)
        return [rollout for _, siblings in groups for rollout in self._permuted(list(siblings))]

    def _permuted(self, siblings: Sequence[Rollout]) -> list[Rollout]:
        owners = self.draw.sample(siblings, len(siblings))
        return [
            dataclasses.replace(rollout, rewards=owner.rewards, reward=owner.reward)
            for rollout, owner in zip(siblings, owners, strict=True)
        ]
