"""The section `objective`: what is optimised. Formula and paper of every setting: `docs/objective.md`.

Only what can be judged without torch is checked here: names, ranges, settings that exclude one another. What a loss asks of its
settings it says itself, when a run is assembled.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.checks import check_finite, one_of, require
from heron.errors import ConfigError

LOSS_TYPES = (
    "grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo", "gspo", "gmpo", "reinforce", "rloo",
)
ADVANTAGE_ESTIMATORS = ("group", "normalize_then_sum", "rloo", "reinforce_plus_plus", "max_rl")
CORRECTIONS = (
    "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_truncate", "geometric_mask",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """What is optimised. Formulas and papers: `docs/objective.md`."""

    loss_type: str = "dapo"
    """The loss by name, such as `grpo`, `dapo`, `gspo` or `cispo`; or one of your own as `file.py:function`."""
    importance_sampling_level: str = "token"
    """The ratio of new to old policy is taken per `token`, or as the mean over the `sequence` (GSPO)."""
    epsilon: float = 0.2
    """The ratio is clipped below at 1 - epsilon."""
    epsilon_high: float | None = None
    """The ratio is clipped above at 1 + epsilon_high. None: the same as epsilon; DAPO uses 0.28. With cispo: the cap itself, 5.0."""
    delta: float | None = None
    """Upper bound on the ratio where the advantage is negative (two-sided clipping); must exceed 1 + epsilon_high."""
    sapo_temperature_pos: float = 1.0
    """sapo: steepness of its soft clip where the advantage is positive."""
    sapo_temperature_neg: float = 1.05
    """sapo: the same where it is negative."""
    vespo_k_pos: float = 2.0
    """vespo: power of the sequence's ratio where the advantage is positive."""
    vespo_lambda_pos: float = 3.0
    """vespo: decay with the ratio where the advantage is positive."""
    vespo_k_neg: float = 3.0
    """vespo: power of the sequence's ratio where the advantage is negative."""
    vespo_lambda_neg: float = 2.0
    """vespo: decay with the ratio where the advantage is negative."""
    beta: float = 0.0
    """Weight of the KL to the reference (the start). 0: no reference is computed."""
    kl_estimator: str = "k3"
    """`k1`, `k2` or `k3`, after Schulman. k1 alone has no gradient in expectation, so it wants `use_bias_correction_kl`."""
    use_bias_correction_kl: bool = False
    """Multiply the estimate by the importance ratio, which makes its gradient that of KL(policy, reference)."""
    advantage_estimator: str = "group"
    """`group`, `normalize_then_sum`, `rloo`, `reinforce_plus_plus`, `max_rl`, or one of your own as `file.py:function`."""
    scale_rewards: str = "group"
    """Estimator `group`: advantages are divided by the std of the `group`, of the whole `batch`, or by nothing (`none`)."""
    mask_truncated_completions: bool = False
    """Leave truncated completions out of the loss (their reward still counts in the group's mean)."""
    top_entropy_quantile: float = 1.0
    """Train only on this share of the tokens, those with the highest entropy. 0.2 is the paper's choice."""
    entropy_coef: float = 0.0
    """Weight of the mean entropy, which is made larger. With `use_adaptive_entropy` its first value."""
    use_adaptive_entropy: bool = False
    """Raise or lower the weight by `entropy_coef_delta` after each optimizer step, so that the entropy stays at its target."""
    entropy_coef_min: float = 0.0
    """Least weight that the adaptive bonus takes."""
    entropy_coef_max: float = 1.0
    """Greatest weight that the adaptive bonus takes."""
    entropy_coef_delta: float = 0.005
    """How much the adaptive bonus changes in one optimizer step."""
    entropy_target: float = 0.2
    """Entropy in nats per token, below which the adaptive bonus works."""
    num_iterations: int = 1
    """Passes over one batch of rollouts."""
    num_minibatches: int = 1
    """Optimizer steps in one pass: the prompts of a batch are divided evenly among them."""
    token_weights: str = "step"
    """Denominators are counted over the whole optimizer `step`; `trl` counts per micro-batch of `rows_per_micro_batch`, as TRL does."""
    rows_per_micro_batch: int | None = None
    """With `token_weights = "trl"`: its `per_device_train_batch_size`."""
    importance_sampling_correction: str = "none"
    """For an engine whose log-probs are not the trainer's: `token_truncate` (TIS), `token_mask` (IcePop), `sequence_truncate`,
    `sequence_mask` (MIS), `geometric_truncate` or `geometric_mask`. The native engine has nothing to correct."""
    importance_sampling_clip_min: float | None = None
    """Ratios below it are truncated or masked. None: no lower bound."""
    importance_sampling_clip_max: float = 3.0
    """Ratios above it are truncated or masked."""
    off_policy_mask_threshold: float | None = None
    """Leave out rollouts with a negative advantage that the policy has left by more than this many nats per token (OPSM)."""

    def __post_init__(self) -> None:
        check_finite("objective", self)
        _name("objective.loss_type", self.loss_type, LOSS_TYPES)
        _name("objective.advantage_estimator", self.advantage_estimator, ADVANTAGE_ESTIMATORS)
        one_of("objective.scale_rewards", self.scale_rewards, ("group", "batch", "none"))
        require(self.scale_rewards == "group" or self.advantage_estimator not in ADVANTAGE_ESTIMATORS[1:],
                f"objective.scale_rewards has no effect with the estimator {self.advantage_estimator}", self.scale_rewards, "Leave it out.")
        one_of("objective.importance_sampling_level", self.importance_sampling_level, ("token", "sequence"))
        for name in ("num_iterations", "num_minibatches"):
            require(getattr(self, name) >= 1, f"objective.{name} must be at least 1", getattr(self, name), "")
        self._check_ratio()
        self._check_kl()
        self._check_entropy()
        self._check_weights()
        self._check_correction()

    def _check_ratio(self) -> None:
        require(0 < self.epsilon < 1, "objective.epsilon must lie between 0 and 1", self.epsilon, "0.2 is the default.")
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        require(high > 0, "objective.epsilon_high must be above 0", high, "0.28 is DAPO's choice.")
        require(self.delta is None or self.delta > 1 + high, "objective.delta must exceed 1 + epsilon_high", self.delta,
                f"Choose more than {1 + high:g}, or leave it out.")
        for name in ("sapo_temperature_pos", "sapo_temperature_neg", "vespo_lambda_pos", "vespo_lambda_neg"):
            require(getattr(self, name) > 0, f"objective.{name} must be above 0", getattr(self, name), "")

    def _check_kl(self) -> None:
        require(self.beta >= 0, "objective.beta must not be negative", self.beta, "0 switches the KL off.")
        one_of("objective.kl_estimator", self.kl_estimator, ("k1", "k2", "k3"))

    def _check_entropy(self) -> None:
        require(0 < self.top_entropy_quantile <= 1, "objective.top_entropy_quantile must lie above 0 and not above 1",
                self.top_entropy_quantile, "0.2 trains on a fifth of the tokens, 1 on all.")
        for name in ("entropy_coef", "entropy_coef_min", "entropy_coef_delta", "entropy_target"):
            require(getattr(self, name) >= 0, f"objective.{name} must not be negative", getattr(self, name), "")
        require(self.entropy_coef_min <= self.entropy_coef_max, "objective.entropy_coef_max must not be below entropy_coef_min",
                self.entropy_coef_max, "")

    def _check_weights(self) -> None:
        one_of("objective.token_weights", self.token_weights, ("step", "trl"))
        rows = self.rows_per_micro_batch
        if self.token_weights == "trl":
            require(rows is not None and rows >= 1, 'objective.token_weights = "trl" needs objective.rows_per_micro_batch', rows,
                    "Give TRL's per_device_train_batch_size.")
        else:
            require(rows is None, 'objective.rows_per_micro_batch only has an effect with token_weights = "trl"', rows, "Leave it out.")

    def _check_correction(self) -> None:
        one_of("objective.importance_sampling_correction", self.importance_sampling_correction, CORRECTIONS)
        low, high = self.importance_sampling_clip_min, self.importance_sampling_clip_max
        require(high > 0, "objective.importance_sampling_clip_max must be above 0", high, "3.0 is the default.")
        require(low is None or 0 <= low < high, "objective.importance_sampling_clip_min must lie between 0 and the maximum", low, "")
        threshold = self.off_policy_mask_threshold
        require(threshold is None or threshold > 0, "objective.off_policy_mask_threshold must be above 0", threshold,
                "At 0 rounding alone would mask rollouts.")


def _name(setting: str, given: str, built_in: tuple[str, ...]) -> None:
    """A built-in name, or `file.py:function`."""
    path, colon, function = given.rpartition(":")
    if path.endswith(".py") and colon and function:
        return
    if given.endswith(".py"):
        raise ConfigError(f"{setting} names a file without a function: {given!r}. Write {given}:function.")
    one_of(setting, given, built_in)
