"""The lesson `kl`: what beta does, on a policy of four answers that likes one and is paid for another.

The one hard idea: a KL is a spring to the start. It does not forbid anything; it asks a price for every bit of distance, and the policy
settles where a little more reward is not worth a little more distance. To show that place and no noise, a step here sees every answer,
each with the weight of its probability, in the place of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import RenderableType
from torch import Tensor

from heron.lessons.drawing import figure, text, words
from heron.objective import Objective, Tokens, find_loss
from heron.run.text import number, share

ANSWERS = {"four": (0.6, 0.0), "4": (0.1, 1.0), "IV": (0.2, 0.0), "cat": (0.1, 0.0)}
"""Probability at the start, and reward."""
RATE = 1.0
"""Learning rate; by a beta above 1 it is divided, so that the spring does not swing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Where a policy came to rest."""

    beta: float
    """Weight of the KL."""
    chances: list[float]
    """Probability of each answer."""
    reward: float
    """Its mean."""
    distance: float
    """KL of the policy from its start, in nats."""


def settle(beta: float, *, steps: int) -> Settled:
    """Gradient descent on Heron's loss with a KL to the start (the estimator k3, the default)."""
    start, rewards = (torch.tensor(column, dtype=torch.float64) for column in zip(*ANSWERS.values(), strict=True))
    objective = Objective(loss=find_loss("dapo"), settings={"epsilon": 0.2}, beta=beta)
    logits = start.log()
    for _ in range(steps):
        logits = logits - RATE / max(1.0, beta) * _gradient(objective, logits, start.log(), rewards)
    chances = logits.softmax(0)
    return Settled(beta=beta, chances=chances.tolist(), reward=float(chances @ rewards),
                   distance=float((chances * (chances.log() - start.log())).sum()))


def _gradient(objective: Objective, logits: Tensor, reference: Tensor, rewards: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    logprobs = leaf.log_softmax(0)
    chances = logprobs.detach().exp()
    tokens = Tokens(logprobs=logprobs, old_logprobs=logprobs.detach(), advantages=rewards - chances @ rewards,
                    rows=torch.arange(len(rewards)), weights=chances, reference_logprobs=reference)
    (gradient,) = torch.autograd.grad(objective(tokens).loss, leaf)
    return gradient


def shown(betas: Sequence[float], *, steps: int) -> list[RenderableType]:
    """The start, then a row for each beta."""
    drawn = figure("beta", *ANSWERS, "mean reward", "KL, nats")
    chances, rewards = zip(*ANSWERS.values(), strict=True)
    drawn.add_row("start", *map(share, chances), number(sum(a * b for a, b in zip(chances, rewards, strict=True))), number(0.0))
    drawn.add_section()
    for found in (settle(beta, steps=steps) for beta in betas):
        drawn.add_row(words(f"{found.beta:g}"), *map(share, found.chances), number(found.reward), number(found.distance))
    return [drawn, text(f"Only 4 is paid, by 1. Shown is each answer's probability after {steps} steps. With beta 0 nothing holds the "
                        "policy; the larger beta is, the more of its start it keeps, and the less it earns.")]
