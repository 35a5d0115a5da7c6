"""The grid on which Heron's losses are held against TRL's, and the inputs: two micro-batches of four ragged rows.

One row is masked whole, one has no advantage, tool tokens make holes, and one token is unscored by the sampler. TRL generates for two
optimizer steps at once (S = 4 micro-batches, GA = 2), so its denominators are not the step's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ROWS_PER_MICRO_BATCH, MICRO_BATCHES, MINIBATCHES = 4, 2, 2
LENGTHS = ([5, 7, 3, 4], [2, 0, 6, 5])
"""Completion tokens of the rows of both micro-batches; the row of length 0 is a truncated one, masked whole."""
TOOL_TOKENS = ((0, 1, 2), (0, 1, 3), (1, 2, 4))
"""(micro-batch, row, column) of tokens that an environment wrote."""
ADVANTAGES = ([1.2, -0.8, 0.0, -1.3], [1.5, -1.1, -0.7, 0.9])
GENERATION_TOKENS = 57.0
"""Loss tokens of all four micro-batches."""
MAX_COMPLETION_LENGTH = 9
WIDTH = 7
NAMES = ("logprobs", "old", "sampler", "reference", "entropy")
CLIP_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One choice of every option."""

    loss: str
    level: str = "token"
    beta: float = 0.0
    use_bias_correction: bool = False
    delta: float | None = None
    opsm: float | None = None
    quantile: float = 1.0
    correction: str = "none"
    entropy_coef: float = 0.0
    on_policy: bool = False

    @property
    def settings(self) -> dict[str, float | None]:
        """What losses ask for by name. The cap of cispo and the range of gmpo are numbers of another kind."""
        epsilon, high = {"cispo": (0.2, 1.3), "gmpo": (0.3, 0.4)}.get(self.loss, (0.2, 0.28))
        return {
            "epsilon": epsilon, "epsilon_high": high, "delta": self.delta, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
            "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0,
        }


CLIP_MAX = {"token_truncate": 1.4, "sequence_mask": 3.0, "token_mask": 1.4, "sequence_truncate": 2.0}


def combinations() -> list[Combination]:
    """Every sensible combination: no delta for losses without a clip, no sequence level for vespo, no KL options without a KL."""
    return [*_grid(), *_on_policy(), *_entropy_bonus(), *_other_corrections(), *_row_losses()]


def _levels(loss: str) -> tuple[str, ...]:
    return ("token",) if loss == "vespo" else ("token", "sequence")


def _starts() -> Iterator[Combination]:
    for loss in (*CLIP_LOSSES, "cispo", "sapo", "vespo"):
        for level in _levels(loss):
            for beta, corrected in ((0.0, False), (0.05, False), (0.05, True)):
                yield Combination(loss=loss, level=level, beta=beta, use_bias_correction=corrected)


def _grid() -> Iterator[Combination]:
    for start in _starts():
        for delta in (None, 1.5) if start.loss in CLIP_LOSSES else (None,):
            for opsm in (None, 0.05):
                for quantile in (1.0, 0.3):
                    for correction in ("none", "token_truncate", "sequence_mask"):
                        yield replace(start, delta=delta, opsm=opsm, quantile=quantile, correction=correction)


def _on_policy() -> Iterator[Combination]:
    return (replace(start, on_policy=True) for start in _starts())


def _entropy_bonus() -> Iterator[Combination]:
    for start in _starts():
        if start.use_bias_correction == (start.beta > 0):
            yield from (replace(start, entropy_coef=0.02, quantile=quantile) for quantile in (1.0, 0.3))


def _other_corrections() -> Iterator[Combination]:
    for loss in ("dapo", "cispo", "vespo"):
        yield from (Combination(loss=loss, correction=correction) for correction in ("token_mask", "sequence_truncate"))


def _row_losses() -> Iterator[Combination]:
    for beta in (0.0, 0.05):
        yield from (Combination(loss="gmpo", beta=beta, quantile=quantile) for quantile in (1.0, 0.3))
    yield Combination(loss="rloo")


def masks() -> list[Tensor]:
    """For each micro-batch `[4, WIDTH]`: the completion, as a mask."""
    return [torch.arange(WIDTH) < torch.tensor(lengths)[:, None] for lengths in LENGTHS]


def tool_masks() -> list[Tensor]:
    """For each micro-batch `[4, WIDTH]`: False where an environment wrote."""
    made = [torch.ones(ROWS_PER_MICRO_BATCH, WIDTH, dtype=torch.bool) for _ in LENGTHS]
    for batch, row, column in TOOL_TOKENS:
        made[batch][row, column] = False
    return made


def trained() -> Tensor:
    """`[2, 4, WIDTH]` tokens in the loss."""
    return torch.stack(masks()) & torch.stack(tool_masks())


def draw_inputs(seed: int = 2) -> dict[str, Tensor]:
    """`[2, 4, WIDTH]` each, float64: ratios on both sides of every clip, rows that OPSM drops and keeps, a NaN of the sampler."""
    generator = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> Tensor:
        return torch.randn(MICRO_BATCHES, ROWS_PER_MICRO_BATCH, WIDTH, generator=generator, dtype=torch.float64) * scale

    logprobs = -normal(1.0).abs() - 0.1
    old = logprobs + normal(0.3) + torch.tensor([[-0.4, 0.3, 0.1, -0.7], [0.4, 0.0, -0.6, 0.1]], dtype=torch.float64)[:, :, None]
    sampler = old + normal(0.2) + torch.tensor([[0.1, -0.1, 0.0, 0.2], [-0.3, 0.0, 0.9, -0.5]], dtype=torch.float64)[:, :, None]
    sampler[0, 0, 1] = torch.nan
    entropy = normal(1.0).abs().float().double()  # as TRL's threshold is found in float32
    return dict(zip(NAMES, (logprobs, old, sampler, logprobs + normal(0.5), entropy), strict=True))
