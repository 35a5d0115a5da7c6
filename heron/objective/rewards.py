"""The rewards of one batch of rollouts as tensors, and statistics within groups.

The one hard idea: what is missing is NaN. NaN counts in no mean and no std, and stays NaN in what is centred.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """R rollouts of a batch, all groups one after the other. Everything is float64."""

    total: Tensor
    """`[R]` weighted sum of the parts; NaN where a rollout could not be scored."""
    parts: Tensor
    """`[R, K]` what each reward function said; NaN where it did not apply."""
    part_weights: Tensor
    """`[K]`."""
    groups: Tensor
    """`[R]` int64: the number of each rollout's group, 0..B-1."""
    names: tuple[str, ...]
    """Of the K reward functions."""

    def group_mean(self, x: Tensor) -> Tensor:
        """`[R]` mean of `x [R]` over the rollout's group, without NaNs; NaN where there is nothing else."""
        return self._spread(self._sum(x.nan_to_num(nan=0.0)) / self._count(x))

    def group_std(self, x: Tensor) -> Tensor:
        """`[R]` standard deviation over the rollout's group, with one degree of freedom less; NaN for fewer than two values."""
        squares = self._sum(self.centred(x).square().nan_to_num(nan=0.0))
        freedom = self._count(x) - 1
        return self._spread((squares / freedom).sqrt().masked_fill(freedom < 1, torch.nan))

    def group_size(self, x: Tensor) -> Tensor:
        """`[R]` how many of the rollout's group are not NaN."""
        return self._spread(self._count(x))

    def centred(self, x: Tensor) -> Tensor:
        """`[R]` x - mean of the group: exactly 0 where all of a group are equal, or one is alone; NaN where x is."""
        difference = x - self.group_mean(x)
        return torch.where(self._is_uniform(x) & ~x.isnan(), torch.zeros_like(x), difference)

    def _is_uniform(self, x: Tensor) -> Tensor:
        known = ~x.isnan()
        index = self.groups[known]
        least = x.new_full((self._num_groups,), torch.inf).scatter_reduce(0, index, x[known], "amin")
        greatest = x.new_full((self._num_groups,), -torch.inf).scatter_reduce(0, index, x[known], "amax")
        return self._spread((least == greatest).to(torch.int64)).bool()

    def _count(self, x: Tensor) -> Tensor:
        return self._sum((~x.isnan()).to(x.dtype))

    def _sum(self, x: Tensor) -> Tensor:
        return x.new_zeros(self._num_groups).index_add(0, self.groups, x)

    def _spread(self, per_group: Tensor) -> Tensor:
        return per_group.index_select(0, self.groups)

    @property
    def _num_groups(self) -> int:
        return int(self.groups.max()) + 1 if self.groups.numel() else 0
