"""What can go wrong with the weights: numbers that break, steps that are too large, a policy that stops trying."""

from __future__ import annotations

import math
from statistics import median

from heron.run.alerts.history import LONG_ENOUGH, WINDOW, Alert, History, rises


def not_finite(history: History) -> Alert | None:
    """A number that is not finite was recorded at the newest step."""
    last = history.last
    bad = sorted(key for key, value in last.items() if value is None or (isinstance(value, float) and not math.isfinite(value)))
    if not bad:
        return None
    return Alert(
        id="not-finite",
        title="A number stopped being finite",
        evidence=f"step {last.get('step')}: {', '.join(bad)}",
        advice="Go back to the last checkpoint with a lower train.learning_rate or train.max_grad_norm.",
    )


def reward_collapse(history: History) -> Alert | None:
    """The reward lies far below the best that it has been, and further than it jumps about by itself."""
    fall = history.course.peak.fall()
    if fall is None or history.is_mastered():
        return None
    best = f"step {fall.last}" if fall.steps == 1 else f"steps {fall.last - fall.steps + 1} to {fall.last}"
    rate = history.course.high.get("learning_rate")
    return Alert(
        id="reward-collapse",
        title="The reward has collapsed",
        evidence=f"reward {fall.best:.2f} in {best} -> {fall.now:.2f} in the last {fall.newest} steps"
        + (f", at a learning rate of up to {rate:.1g}" if rate else ""),
        advice="Unless the problems have become harder, steps too large destroy what the model knew: lower train.learning_rate tenfold, "
        "and look at objective.beta and train.max_grad_norm.",
    )


def entropy_collapse(history: History) -> Alert | None:
    """The policy has all but stopped trying anything else, before the problems are solved."""
    now = history.now("entropy")
    if now is None or now >= 0.01 or history.is_mastered() or rises(history.values("reward")):
        return None
    return Alert(
        id="entropy-collapse",
        title="The model has stopped exploring",
        evidence=f"in the last {WINDOW} steps the entropy was {now:.4f} nats per token, and the reward does not rise",
        advice="Lower train.learning_rate, set objective.entropy_coef, or raise objective.epsilon_high (clip-higher).",
    )


def entropy_explosion(history: History) -> Alert | None:
    """The policy becomes ever less decided, and no better."""
    start, now = history.start("entropy"), history.now("entropy")
    if start is None or now is None or now <= max(3 * start, 0.3) or rises(history.skill()):
        return None
    return Alert(
        id="entropy-explosion",
        title="The model is falling apart",
        evidence=f"entropy {start:.2f} -> {now:.2f} nats per token",
        advice="Lower train.learning_rate, and objective.entropy_coef if it is set.",
    )


def far_from_start(history: History) -> Alert | None:
    """The KL to the start of the run is large."""
    now = history.now("kl")
    if now is None or now <= 2:
        return None
    return Alert(
        id="large-kl",
        title="The model has moved far from its start",
        evidence=f"in the last {WINDOW} steps the KL to the start was {now:.1f} nats per token",
        advice="Raise objective.beta, or lower train.learning_rate.",
    )


def much_clipped(history: History) -> Alert | None:
    """Much of the gradient is thrown away by clipping."""
    now = history.now("clip_ratio/region_mean")
    if now is None or now <= 0.3:
        return None
    return Alert(
        id="much-clipped",
        title="Much of the batch is clipped",
        evidence=f"in the last {WINDOW} steps {now:.0%} of the tokens had moved beyond the clipping range",
        advice="Take fewer optimizer steps per batch (objective.num_iterations, objective.num_minibatches), or lower train.learning_rate.",
    )


def sampler_mismatch(history: History) -> Alert | None:
    """The sampler and the trainer disagree on the probability of the same tokens."""
    now = history.now("sampling/logp_difference_mean")
    if now is None or now <= 0.02:
        return None
    return Alert(
        id="sampler-mismatch",
        title="Sampler and trainer disagree",
        evidence=f"their log-probabilities of the same tokens differ by {now:.3f} on average",
        advice="Use a higher model.dtype precision; if it stays, please report it with the run's config.",
    )


def gradient_spike(history: History) -> Alert | None:
    """The newest gradient is far larger than the usual one of late."""
    norms = history.newest("grad_norm")
    if len(norms) < LONG_ENOUGH or (usual := median(norms)) == 0 or norms[-1] <= 10 * usual:
        return None
    return Alert(
        id="gradient-spike",
        title="The gradient jumped",
        evidence=f"its norm is {norms[-1]:.3g}, the median of the last {len(norms)} is {usual:.3g}",
        advice="One spike is clipped and harmless. If they repeat, lower train.learning_rate.",
    )
