"""From the rewards of siblings to advantages.

Groups are compared with themselves only: the mean of the siblings replaces PPO's value model (GRPO, arXiv 2402.03300). A group
whose rewards are all equal gets exactly 0, not the rounding error of its mean divided by a small number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to the standard deviation."""


def advantages(rewards: Sequence[Sequence[float | None]], *, scale: str = "group") -> list[list[float]]:
    """`A = (r - mean of the group) / (std + 1e-4)`, computed in float64.

    Args:
        rewards: B groups of sibling rewards (groups may differ in size); None marks a rollout that could not be scored: it gets
            advantage 0 and does not count in any mean or std.
        scale: `group` divides by the group's standard deviation (one degree of freedom less), `batch` by the standard deviation
            of all rewards (arXiv 2508.08221), `none` by nothing (Dr. GRPO, arXiv 2503.20783).

    Returns:
        One advantage per rollout, in the shape of the input.
    """
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"scale must be 'group', 'batch' or 'none', but it is {scale!r}")
    everything = torch.tensor([r for group in rewards for r in group if r is not None], dtype=torch.float64)
    batch_std = everything.std() if len(everything) > 1 else torch.tensor(0.0)
    return [_group_advantages(group, scale, batch_std) for group in rewards]


def _group_advantages(rewards: Sequence[float | None], scale: str, batch_std: Tensor) -> list[float]:
    scored = torch.tensor([r for r in rewards if r is not None], dtype=torch.float64)  # [n]
    if len(scored) < 2 or bool(scored.max() == scored.min()):
        return [0.0] * len(rewards)
    centred = scored - scored.mean()
    if scale == "group":
        centred = centred / (scored.std() + EPSILON)
    elif scale == "batch":
        centred = centred / (batch_std + EPSILON)
    values = iter(centred.tolist())
    return [0.0 if r is None else next(values) for r in rewards]
