"""The two uses of entropy: train on the undecided tokens only, and keep the policy from deciding too early.

    top-entropy mask    keep[t] = H[t] >= quantile(H, 1 - q), over the whole optimizer step       (2506.01939, q = 0.2)
    entropy bonus       loss -= c * mean of H over the kept tokens; c fixed, or steered towards a target     (2505.22312)

The one hard idea: the controller is a value. `after` gives the next one, so that its state is what a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heron.errors import ConfigError


def entropy_threshold(entropies: Tensor | Sequence[float], quantile: float) -> float:
    """The least entropy that is among the upper share `quantile` of them; between two values linearly.

    Written out because `torch.quantile` refuses more than 16 million values, which is a step of 2048 rollouts of 8192 tokens.
    """
    if not 0 < quantile <= 1:
        raise ConfigError(f"objective.top_entropy_quantile must lie above 0 and not above 1, but it is {quantile}. 1 keeps every token.")
    values = torch.as_tensor(entropies, dtype=torch.float64).sort().values  # [M]
    if not len(values):
        return float("inf")
    place = (len(values) - 1) * (1 - quantile)
    below, above = float(values[int(place)]), float(values[min(int(place) + 1, len(values) - 1)])
    return below + (place - int(place)) * (above - below)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedEntropy:
    """An entropy bonus that stays as it is; 0 is none."""

    coef: float = 0.0
    """c."""

    @property
    def applied(self) -> float:
        """The coefficient of this step."""
        return self.coef

    def after(self, mean_entropy: float) -> FixedEntropy:
        """The same."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveEntropy:
    """An entropy bonus that grows while the entropy is at or below its target, shrinks above it, and acts only below.

    >>> bonus = AdaptiveEntropy(coef=0.0).after(0.1)
    >>> bonus.applied
    0.005
    """

    coef: float
    """c, whether it is applied or not."""
    low: float = 0.0
    """Least c."""
    high: float = 1.0
    """Greatest c."""
    delta: float = 0.005
    """Change of c in one optimizer step."""
    target: float = 0.2
    """Nats per token."""
    last: float | None = None
    """Mean entropy of the last optimizer step; None before the first."""

    def __post_init__(self) -> None:
        if not self.low <= self.coef <= self.high:
            raise ConfigError(f"objective.entropy_coef must lie between entropy_coef_min and entropy_coef_max, but it is {self.coef:g} "
                              f"and they are {self.low:g} and {self.high:g}. Choose a first value within them.")

    @property
    def applied(self) -> float:
        """The coefficient of this step: 0 in the first one, and where the last one's entropy was above the target."""
        return self.coef if self.last is not None and self.last <= self.target else 0.0

    def after(self, mean_entropy: float) -> AdaptiveEntropy:
        """The controller of the next step; `mean_entropy` is over all kept tokens of this one."""
        moved = self.coef + (self.delta if mean_entropy <= self.target else -self.delta)
        return replace(self, coef=min(max(moved, self.low), self.high), last=mean_entropy)
