"""How much each token counts: what most `loss_type`s differ in.

    row_mean      1 / (R max(n_b, 1))   every row the same, its tokens share it        grpo, sapo, gspo, gmpo, rloo   (2402.03300)
    tokens        1 / max(N, 1)         every token of the step the same               dapo, cispo, vespo, reinforce  (2503.14476)
    local_tokens  1 / max(N, 1)         the same; counted per micro-batch by TRL       bnpo
    constant      1 / (R L)             every token the same, by a constant            dr_grpo                        (2503.20783)
    row_sum       1 / R                 rows count by their length                     luspo                          (2602.05261)

R rows of the optimizer step, n_b loss tokens of row b, N their sum, L `max_completion_length`. The one hard idea: they are counted over
the *whole* step, every rank and micro-batch, on integers, before any forward pass; so the gradient does not depend on how the step is
cut. Rows whose tokens are all masked stay in R and leave N. `trl_weights` reproduces what TRL divides by instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heron.errors import ConfigError

SCHEMES = ("row_mean", "tokens", "local_tokens", "constant", "row_sum")
"""What the sum over tokens can be divided by."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of an optimizer step, or of a part of it: parts add up."""

    rows: int
    """R, rows whose tokens are all masked included."""
    tokens: int
    """N, loss tokens."""
    kept_tokens: int
    """Loss tokens that the top-entropy mask keeps; all of them where there is none."""

    @classmethod
    def of(cls, lengths: Sequence[int], kept_lengths: Sequence[int] | None = None) -> Counts:
        """Of rows with so many loss tokens, and so many kept ones."""
        tokens = sum(lengths)
        return cls(len(lengths), tokens, tokens if kept_lengths is None else sum(kept_lengths))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.rows + other.rows, self.tokens + other.tokens, self.kept_tokens + other.kept_tokens)


def token_weights(scheme: str, lengths: Sequence[int], *, counts: Counts, max_completion_length: int) -> list[float]:
    """Weight of each loss token of each row.

    Args:
        scheme: one of `SCHEMES`.
        lengths: loss tokens of each row; 0 where all are masked.
        counts: of the whole optimizer step, over all ranks.
        max_completion_length: L.

    Returns:
        One weight per row: all loss tokens of a row weigh the same.
    """
    _check(scheme)
    return [1.0 / _divisor(scheme, length, rows=counts.rows, tokens=counts.tokens, limit=max_completion_length) for length in lengths]


def trl_weights(
    scheme: str, lengths: Sequence[int], *, rows_per_micro_batch: int, minibatches: int, max_completion_length: int, generation_tokens: int,
) -> list[float]:
    """The same as TRL counts it, on one rank. It differs for two schemes.

    `local_tokens` divides by the tokens of the micro-batch and by the number of micro-batches, so rows among short ones count more.
    `tokens` divides by the average over the optimizer steps of one batch of rollouts, not by the tokens of this one.

    Args:
        scheme: one of `SCHEMES`.
        lengths: loss tokens of each row of one optimizer step, in the order in which micro-batches are cut from them.
        rows_per_micro_batch: TRL's `per_device_train_batch_size`.
        minibatches: optimizer steps of one pass over a batch of rollouts; `steps_per_generation / gradient_accumulation_steps`.
        max_completion_length: L.
        generation_tokens: loss tokens of the whole batch of rollouts.
    """
    _check(scheme)
    if scheme == "tokens":
        return [minibatches / max(generation_tokens, 1)] * len(lengths)
    parts = list(_micro_batches(lengths, rows_per_micro_batch))
    return [
        1.0 / (len(parts) * _divisor(scheme, length, rows=len(part), tokens=sum(part), limit=max_completion_length))
        for part in parts for length in part
    ]


def entropy_weight(counts: Counts) -> float:
    """Weight of each kept token in the entropy bonus: 1 / (kept tokens of the step)."""
    return 1.0 / max(counts.kept_tokens, 1)


def trl_entropy_weights(kept_lengths: Sequence[int], rows_per_micro_batch: int) -> list[float]:
    """The same as TRL counts it: one weight per row, from the kept tokens of its micro-batch."""
    parts = list(_micro_batches(kept_lengths, rows_per_micro_batch))
    return [1.0 / (len(parts) * max(sum(part), 1)) for part in parts for _ in part]


def _divisor(scheme: str, length: int, *, rows: int, tokens: int, limit: int) -> int:
    """What the loss of a row's token is divided by, within rows and tokens that are averaged over."""
    if scheme == "row_mean":
        return rows * max(length, 1)
    if scheme == "constant":
        return rows * limit
    return rows if scheme == "row_sum" else max(tokens, 1)


def _micro_batches(lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    if len(lengths) % size:
        raise ConfigError(f"An optimizer step of {len(lengths)} rows cannot be cut into micro-batches of "
                          f"objective.rows_per_micro_batch = {size}. Choose a divisor of {len(lengths)}.")
    return (lengths[start : start + size] for start in range(0, len(lengths), size))


def _check(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ConfigError(f"There are no weights {scheme!r}. There are {', '.join(SCHEMES)}.")
