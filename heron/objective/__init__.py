"""Losses, token weights, KL, corrections, entropy and advantages: pure tensor functions with plain arguments.

The one hard idea: every loss is a dot product, `sum_t weight[t] * loss[t]`. The weights are made once per optimizer step from counts
over the whole step, so the gradient does not depend on how the step is cut into micro-batches. Formulas and papers: `docs/objective.md`.
"""

from heron.objective.advantages import advantages, loneliness
from heron.objective.advice import advice
from heron.objective.corrections import CORRECTIONS, Correction, find_correction, mismatch_statistics, off_policy_keep
from heron.objective.entropy import AdaptiveEntropy, FixedEntropy, entropy_threshold
from heron.objective.estimators import ESTIMATORS, Estimator, find_estimator, register_advantage
from heron.objective.kl import KL_ESTIMATORS
from heron.objective.loss import Loss, Surrogate, register_loss
from heron.objective.losses import LOSSES, find_loss
from heron.objective.objective import Objective, StepLoss
from heron.objective.rewards import Rewards
from heron.objective.tokens import LossInputs, Tokens
from heron.objective.weights import SCHEMES, Counts, entropy_weight, token_weights, trl_entropy_weights, trl_weights

__all__ = [
    "AdaptiveEntropy",
    "CORRECTIONS",
    "Correction",
    "Counts",
    "ESTIMATORS",
    "Estimator",
    "FixedEntropy",
    "KL_ESTIMATORS",
    "LOSSES",
    "Loss",
    "LossInputs",
    "Objective",
    "Rewards",
    "SCHEMES",
    "StepLoss",
    "Surrogate",
    "Tokens",
    "advantages",
    "advice",
    "entropy_threshold",
    "entropy_weight",
    "find_correction",
    "find_estimator",
    "find_loss",
    "loneliness",
    "mismatch_statistics",
    "off_policy_keep",
    "register_advantage",
    "register_loss",
    "token_weights",
    "trl_entropy_weights",
    "trl_weights",
]
