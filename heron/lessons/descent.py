"""One optimizer step on a tiny policy, with the loss and the token weights of a real run.

The one hard idea: a policy is whatever turns parameters into the log-probs of what was done. A language model does that with a network,
a lesson with a table; the loss cannot tell them apart. What it leaves out: Adam. Its momentum would go on moving a policy that is told
nothing, and that a group without a difference teaches *nothing* is one of the lessons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heron.objective import Counts, Objective, Tokens, find_loss, token_weights

LOSS = "dapo"
"""The default of a run."""
EPSILON = 0.2
"""Likewise."""


def improved(
    parameters: Tensor, logprobs_of: Callable[[Tensor], Tensor], lengths: Sequence[int], advantages: Sequence[float], *, rate: float,
) -> Tensor:
    """The parameters after one step of plain gradient descent.

    Args:
        parameters: of the policy, any shape.
        logprobs_of: from parameters to the log-probs of everything that was done, `[N]`, one row behind the other.
        lengths: how much was done in each row: moves of a game, tokens of an answer.
        advantages: of each row.
        rate: the learning rate.
    """
    if not any(advantages):
        return parameters  # no signal: the gradient is exactly zero
    loss = find_loss(LOSS)
    leaf = parameters.detach().requires_grad_()
    logprobs = logprobs_of(leaf)  # [N]
    rows = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))  # [N]
    weights = token_weights(loss.weights, lengths, counts=Counts.of(lengths), max_completion_length=max(lengths))
    tokens = Tokens(
        logprobs=logprobs, old_logprobs=logprobs.detach(), rows=rows,
        advantages=logprobs.new_tensor(advantages)[rows], weights=logprobs.new_tensor(weights)[rows],
    )
    (gradient,) = torch.autograd.grad(Objective(loss=loss, settings={"epsilon": EPSILON})(tokens).loss, leaf)
    return (leaf - rate * gradient).detach()
