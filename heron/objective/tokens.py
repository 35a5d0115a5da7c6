"""The trained tokens of one micro-batch, flat, and sums over the rows that they belong to.

The one hard idea: there is no padding. `rows[t]` says which row (rollout) token t belongs to, so what is per row (the ratio of a whole
sequence, a mean KL) is a segment sum, and is given back to the tokens by indexing. A row is never split over micro-batches. Rows
without a trained token do not appear; they live on in the weights only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """Which row each of N tokens belongs to."""

    rows: Tensor
    """`[N]` int64, 0..B-1 in order of appearance."""
    num_rows: int = field(init=False)
    """B. Read from the device once, here."""
    lengths: Tensor = field(init=False)
    """`[B]` tokens of each row."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_rows", int(self.rows.max()) + 1 if self.rows.numel() else 0)
        object.__setattr__(self, "lengths", torch.bincount(self.rows, minlength=self.num_rows))

    def sum(self, x: Tensor) -> Tensor:
        """`[B]` sum of `x [N]` over the tokens of each row."""
        return x.new_zeros(self.num_rows).index_add(0, self.rows, x)

    def mean(self, x: Tensor) -> Tensor:
        """`[B]` mean of `x [N]` over the tokens of each row."""
        return self.sum(x) / self.lengths.clamp(min=1)

    def spread(self, per_row: Tensor) -> Tensor:
        """`[N]` the value `per_row [B]` of each token's row."""
        return per_row.index_select(0, self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The N trained tokens of one micro-batch."""

    logprobs: Tensor
    """`[N]` under the current policy, with gradient."""
    old_logprobs: Tensor
    """`[N]` under the policy before the update."""
    advantages: Tensor
    """`[N]` of each token's row."""
    rows: Tensor
    """`[N]` int64: the number of the row of each token, 0..B-1, in order of appearance."""
    weights: Tensor
    """`[N]` share of each in the step's loss."""
    sampler_logprobs: Tensor | None = None
    """`[N]` as the sampler reported them, NaN where it reported none."""
    reference_logprobs: Tensor | None = None
    """`[N]` under the reference."""
    entropy: Tensor | None = None
    """`[N]` of the policy, with gradient, where an entropy bonus wants it."""
    entropy_weights: Tensor | None = None
    """`[N]` share of each in the entropy bonus; 0 where a token is not kept."""
    keep: Tensor | None = None
    """`[N]` 0 or 1: the token is among those with the highest entropy. None: all are kept."""
    segments: Segments = field(init=False, repr=False)
    """`rows`, ready for sums."""

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        shapes = {name: tuple(value.shape) for name, value in given.items() if value is not None}
        assert all(shape == (len(self.logprobs),) for shape in shapes.values()), f"every tensor has the shape [N]: {shapes}"
        object.__setattr__(self, "segments", Segments(self.rows))

    @property
    def num_rows(self) -> int:
        """B."""
        return self.segments.num_rows

    def row_sum(self, x: Tensor) -> Tensor:
        """`[B]` sum of `x [N]` over each row."""
        return self.segments.sum(x)

    def row_mean(self, x: Tensor) -> Tensor:
        """`[B]` mean of `x [N]` over each row, by its number of tokens."""
        return self.segments.mean(x)

    def spread(self, per_row: Tensor) -> Tensor:
        """`[N]` the value `per_row [B]` of each token's row."""
        return self.segments.spread(per_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """What a surrogate is handed: everything per token `[N]`, and sums over rows."""

    logprobs: Tensor
    """`[N]` under the current policy, with gradient."""
    old_logprobs: Tensor
    """`[N]` under the policy before the update."""
    log_ratio: Tensor
    """`[N]` logprobs - old_logprobs, of the token itself at every level."""
    ratio: Tensor
    """`[N]` importance ratio, with gradient: exp(log_ratio), or at level `sequence` exp(mean of the row's log_ratio)."""
    advantages: Tensor
    """`[N]` of each token's row."""
    importance: Tensor | None = None
    """`[N]` rho, the off-policy correction, constant. It is multiplied on afterwards, unless the loss includes it itself."""
    importance_is_per_row: bool = False
    """True if all tokens of a row share one rho."""
    keep: Tensor | None = None
    """`[N]` 0 or 1, top-entropy mask. It is multiplied on afterwards, unless the loss includes it itself."""
    segments: Segments = field(repr=False)
    """Which row each token belongs to."""

    def row_sum(self, x: Tensor) -> Tensor:
        """`[B]` sum of `x [N]` over each row."""
        return self.segments.sum(x)

    def row_mean(self, x: Tensor) -> Tensor:
        """`[B]` mean of `x [N]` over each row, by its number of tokens."""
        return self.segments.mean(x)

    def spread(self, per_row: Tensor) -> Tensor:
        """`[N]` the value `per_row [B]` of each token's row."""
        return self.segments.spread(per_row)


def importance_ratio(log_ratio: Tensor) -> Tensor:
    """exp(log_ratio), with the exponent held within +-20: beyond it the ratio is noise and its exponential may overflow."""
    return log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()


LOG_RATIO_BOUND = 20.0
"""Nats."""
