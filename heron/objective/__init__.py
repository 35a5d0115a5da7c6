"""Advantages, token weights, ratio, surrogate and KL: pure tensor functions with plain arguments.

The one hard idea: every loss is a dot product, `sum_t weight[t] * token_loss[t]`. The weights are made once per optimizer step
from counts over the whole step, so the gradient does not depend on how the step is cut into micro-batches.
"""

from heron.objective.advantages import advantages
from heron.objective.losses import TokenLoss, clipped_surrogate, k3
from heron.objective.weights import token_weights

__all__ = ["TokenLoss", "advantages", "clipped_surrogate", "k3", "token_weights"]
