"""Which rows a step trains on.

The idea: batches are windows on one endless sequence of rows, in which every epoch is a permutation of its own. So the
batch of a step is a function of the seed and the step alone, there is no state to save, and no row is left over at the
end of an epoch. What a cursor keeps, the order of the epoch that it was last asked for, only saves drawing it again.
"""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass, field

from heron.errors import DataError


@dataclass(frozen=True, slots=True)
class PromptCursor:
    """Row indices of each step. `PromptCursor(7473, 8, seed=0, shuffle=True).batch(1)` are the first eight."""

    num_rows: int
    """Rows of an epoch."""
    batch_size: int
    """Rows of a step; more than an epoch's are drawn from several epochs."""
    _: KW_ONLY
    seed: int
    """Decides the order of every epoch."""
    shuffle: bool
    """False: every epoch is in the dataset's order."""
    _drawn: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The order of the last epoch, by its number."""

    def __post_init__(self) -> None:
        if self.num_rows < 1 or self.batch_size < 1:
            raise DataError(
                f"A batch needs rows: {self.batch_size} prompts a step were asked for, "
                f"of a dataset with {self.num_rows} rows."
            )

    def batch(self, step: int) -> tuple[int, ...]:
        """The rows of `step`, which counts from 1."""
        assert step >= 1, f"steps count from 1, not {step}"
        return self.window((step - 1) * self.batch_size, self.batch_size)

    def window(self, begin: int, count: int) -> tuple[int, ...]:
        """`count` rows from place `begin` of the sequence on."""
        return tuple(self._row(position) for position in range(begin, begin + count))

    def _row(self, position: int) -> int:
        epoch, index = divmod(position, self.num_rows)
        return self._order(epoch)[index] if self.shuffle else index

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._drawn:
            rows = list(range(self.num_rows))
            random.Random(f"epoch {epoch} of seed {self.seed}").shuffle(rows)
            self._drawn.clear()
            self._drawn[epoch] = rows
        return self._drawn[epoch]
