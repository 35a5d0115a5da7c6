"""How much each token counts: what the `loss_type`s differ in.

    grpo     1 / (R max(n_b, 1))     every row the same, its tokens share it                  (arXiv 2402.03300)
    dapo     1 / max(N, 1)           every token of the step the same                         (arXiv 2503.14476)
    bnpo     1 / max(N, 1)           the same; peers that average per micro-batch differ
    dr_grpo  1 / (R L)               every token the same, by a constant                      (arXiv 2503.20783)

R rows in the optimizer step, n_b loss tokens of row b, N = sum of n_b, L `max_completion_length`. Rows whose tokens are all
masked (truncated ones, if they are left out) stay in R and leave N.
"""

from __future__ import annotations

from collections.abc import Sequence


def token_weights(loss_type: str, loss_tokens: Sequence[int], *, max_completion_length: int) -> list[float]:
    """Weight of each loss token of each row of one optimizer step.

    Args:
        loss_type: `grpo`, `bnpo`, `dapo` or `dr_grpo`.
        loss_tokens: n_b of *every* row of the step, rows that will not be forwarded included.
        max_completion_length: L.

    Returns:
        One weight per row: all loss tokens of a row weigh the same.
    """
    rows, tokens = len(loss_tokens), sum(loss_tokens)
    if loss_type == "grpo":
        return [1.0 / (rows * max(count, 1)) for count in loss_tokens]
    if loss_type in ("dapo", "bnpo"):
        return [1.0 / max(tokens, 1)] * rows
    if loss_type == "dr_grpo":
        return [1.0 / (rows * max_completion_length)] * rows
    raise ValueError(f"unknown loss_type {loss_type!r}; there are grpo, bnpo, dapo, dr_grpo")
