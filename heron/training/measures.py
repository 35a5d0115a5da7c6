"""What was measured on the trained tokens of one or several optimizer steps.

Every measurement is a value per token, kept on its device until the end of a batch of rollouts: then all of them are reduced
together, in one transfer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

RATIO = "ratio"
"""The mark of which the extremes are reported, as `ratio/max` and `ratio/min`: its mean says nothing."""
SILENT = (RATIO, "importance_raw", "importance")
"""Marks without a mean of their own; corrections are reported with the mismatch that they correct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Losses of micro-batches, and values per token by name."""

    losses: tuple[Tensor, ...] = ()
    """One scalar per micro-batch; their sum is the optimizer step's loss."""
    marks: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    """`[N]` of each micro-batch, by name."""

    @staticmethod
    def of(loss: Tensor, marks: Mapping[str, Tensor]) -> Measures:
        """Of one micro-batch."""
        return Measures(losses=(loss,), marks={name: (values,) for name, values in marks.items()})

    @staticmethod
    def merged(parts: Sequence[Measures]) -> Measures:
        """Of all parts together."""
        names = dict.fromkeys(name for part in parts for name in part.marks)
        return Measures(
            losses=tuple(loss for part in parts for loss in part.losses),
            marks={name: tuple(values for part in parts for values in part.marks.get(name, ())) for name in names},
        )

    @property
    def num_tokens(self) -> int:
        """Trained tokens, counted once per pass."""
        return sum(len(values) for values in self.marks.get(RATIO, ()))

    def watched(self) -> dict[str, Tensor]:
        """Scalars that are finite if and only if every loss, and every ratio, is."""
        if not self.num_tokens:
            return {}
        return {"loss": torch.stack(self.losses).double().sum(), RATIO: torch.cat(self.marks[RATIO]).double().sum()}

    def metrics(self) -> dict[str, float]:
        """`loss` (the sum), the mean of every mark over its tokens, and the extremes of the ratio; nothing without tokens."""
        if not self.num_tokens:
            return {}
        whole = {name: torch.cat(values).double() for name, values in self.marks.items()}
        reduced = {"loss": torch.stack([loss.double() for loss in self.losses]).sum()}
        reduced |= {name: values.mean() for name, values in whole.items() if name not in SILENT} | {
            "ratio/max": whole[RATIO].max(), "ratio/min": whole[RATIO].min()}
        return dict(zip(reduced, torch.stack(list(reduced.values())).tolist(), strict=True))
