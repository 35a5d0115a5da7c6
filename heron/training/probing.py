"""Ask the functions that a config names what they do, on a few made-up rollouts, before time is spent.

A user's loss is asked, not believed: does it depend on the log-probs, does it move rollouts without an advantage (then these must be
trained on), is it finite, are its marks names of its own. So what is wrong with it is an error here and not after a batch of rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from heron.errors import ConfigError, HeronError
from heron.objective import Estimator, Objective, StepLoss, Tokens, advantages
from heron.objective.objective import OWN_MARKS

ROWS = (1, 4, 2, 9)
"""Tokens of the made-up rollouts."""
TAKEN = frozenset({
    "advantages", "completions", "frac_rollouts_trained", "groups", "importance", "importance_raw", "kl", "loss", "memory", "num_tokens",
    "off_policy_masked", "ratio", "reward", "rewards", "sampling", "step", "throughput", "time",
})
"""What metrics of the run begin with; a loss's marks must not."""


def moves_without_advantage(objective: Objective) -> bool:
    """Whether rollouts with advantage 0 must be trained on all the same: true of a KL, and of a loss that is not a multiple of A.

    Raises a ConfigError for a loss that could not be trained with.
    """
    if not any(gradient.any() for gradient in _gradients(objective, scale=1.0)):
        raise ConfigError(f"The loss {objective.loss.name} has no gradient on rollouts with an advantage: it must depend on "
                          "inputs.logprobs, inputs.log_ratio or inputs.ratio, without detaching them.")
    return any(bool(gradient.any()) for gradient in _gradients(objective, scale=0.0))


def check_estimator(estimator: Estimator, *, scale_rewards: str) -> None:
    """A ConfigError for an estimator that cannot be called on a batch."""
    try:
        advantages([[0.0, 1.0, None], [0.5, 0.5]], [[{"r": 0.0}, {"r": 1.0}, {"r": None}], [{"r": 0.5}, {"r": 0.5}]], {"r": 1.0},
                   estimator=estimator, scale_rewards=scale_rewards)
    except HeronError:
        raise
    except Exception as error:  # boundary: a user's function raises anything
        raise ConfigError(f"The advantage estimator {estimator.name} raised {type(error).__name__} on a batch of two groups: {error}. "
                          "It is called with Rewards and, if it names it, scale_rewards.") from error


def _gradients(objective: Objective, *, scale: float) -> Iterator[Tensor]:
    """`[N]` of the loss by the log-probs, at several distances from the old policy; advantages are normal, times `scale`."""
    generator = torch.Generator().manual_seed(0)
    count = sum(ROWS)
    for spread, drift in ((0.5, 0.0), (5.0, 0.0), (1.0, 0.3), (30.0, 3.0)):
        old = -spread * torch.rand(count, generator=generator, dtype=torch.float64)  # [N]
        drawn = torch.randn(2, count, generator=generator, dtype=torch.float64)  # [2, N]
        logprobs = (old + drift * drawn[0]).clamp(max=-1e-6).requires_grad_()
        loss = _asked(objective, Tokens(
            logprobs=logprobs, old_logprobs=old if drift else logprobs.detach(), sampler_logprobs=old, reference_logprobs=old,
            advantages=scale * drawn[1], rows=torch.arange(len(ROWS)).repeat_interleave(torch.tensor(ROWS)),
            weights=torch.full((count,), 1 / count, dtype=torch.float64), keep=torch.ones(count, dtype=torch.float64),
        ))
        gradient = torch.autograd.grad(loss.loss, logprobs, allow_unused=True)[0] if loss.loss.requires_grad else None
        gradient = torch.zeros_like(logprobs) if gradient is None else gradient
        if not bool(gradient.isfinite().all()):
            where = "without an advantage" if scale == 0 else "with advantages"
            raise ConfigError(f"The gradient of the loss {objective.loss.name} is not finite on rollouts {where}. Look for a division by "
                              "what may be 0, and for logarithms and exponentials of what may be large.")
        yield gradient


def _asked(objective: Objective, tokens: Tokens) -> StepLoss:
    try:
        loss = objective(tokens)
    except HeronError:
        raise
    except Exception as error:  # boundary: a user's function raises anything
        raise ConfigError(f"The loss {objective.loss.name} raised {type(error).__name__}: {error}. It is called with LossInputs, whose "
                          f"tensors have the shape [{len(tokens.rows)}] here.") from error
    taken = sorted(name for name in set(loss.marks) - OWN_MARKS if name.split("/")[0] in TAKEN)
    if taken:
        raise ConfigError(f"The loss {objective.loss.name} marks {', '.join(taken)}, which the run itself logs. Choose names such as "
                          f"{objective.loss.name}/share.")
    return loss
