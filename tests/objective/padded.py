"""Naive padded references in float64, at most ten lines each, and random ragged batches to hold against them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heron.objective import Counts, Objective, Tokens, token_weights

SETTINGS = {
    "epsilon": 0.2, "epsilon_high": 0.28, "delta": 1.6, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
    "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0,
}
LIMIT = 20
"""max_completion_length."""


@dataclass
class Padded:
    """R rows of at most T tokens."""

    lp: Tensor
    """`[R, T]`, with gradient."""
    old: Tensor
    smp: Tensor
    ref: Tensor
    A: Tensor
    """`[R]`."""
    m: Tensor
    """`[R, T]` 0 or 1; some rows are masked whole."""

    @property
    def n(self) -> Tensor:
        return self.m.sum(1).clamp(min=1)

    def rows(self, chosen: list[int]) -> Padded:
        """These rows in this order; gradients go to the same log-probs."""
        return Padded(*(x[chosen] for x in (self.lp, self.old, self.smp, self.ref, self.A, self.m)))


def draw(seed: int, *, spread: float = 0.4) -> Padded:
    generator = torch.Generator().manual_seed(seed)
    rows, width = int(torch.randint(3, 9, (), generator=generator)), int(torch.randint(2, 12, (), generator=generator))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(0, width + 1, (rows,), generator=generator)
    lengths[0] = width
    lengths[1] = 0
    lp = -normal(rows, width).abs() - 0.1
    old = lp + spread * normal(rows, width)
    made = Padded(lp.requires_grad_(), old, old + 0.2 * normal(rows, width), lp.detach() + 0.5 * normal(rows, width), normal(rows),
                  (torch.arange(width) < lengths[:, None]).double())
    made.old, made.A[2] = made.old.detach(), 0.0
    made.smp = made.smp.detach()
    made.smp[0, 0] = math.nan
    return made


def flat(batch: Padded, scheme: str, *, counts: Counts | None = None, order: Tensor | None = None, **more: Any) -> Tokens:
    """The trained tokens alone, in `order`, weighted by rule."""
    where = batch.m.bool()
    lengths = [int(length) for length in batch.m.sum(1)]
    per_row = token_weights(scheme, lengths, counts=counts or Counts.of(lengths), max_completion_length=LIMIT)
    row = where.nonzero()[:, 0]
    order = torch.arange(len(row)) if order is None else order
    columns = {
        "logprobs": batch.lp[where], "old_logprobs": batch.old[where], "sampler_logprobs": batch.smp[where],
        "reference_logprobs": batch.ref[where], "advantages": batch.A[row], "weights": torch.tensor(per_row, dtype=torch.float64)[row],
    }
    return Tokens(rows=in_order_of_appearance(row[order]), **{name: x[order] for name, x in columns.items()}, **more)


def in_order_of_appearance(row: Tensor) -> Tensor:
    """Numbers 0..B-1."""
    numbers: dict[int, int] = {}
    return torch.tensor([numbers.setdefault(int(each), len(numbers)) for each in row])


def value_and_gradient(objective: Objective, batch: Padded, **more: Any) -> tuple[Tensor, Tensor]:
    loss = objective(flat(batch, objective.loss.weights, **more)).loss
    return loss.detach(), torch.autograd.grad(loss, batch.lp)[0]


def ratio(b: Padded, level: str) -> Tensor:
    """`[R, T]` or `[R, 1]`."""
    if level == "token":
        return torch.exp(b.lp - b.old)
    return torch.exp(((b.lp - b.old) * b.m).sum(1, keepdim=True) / b.n[:, None])


def clip(w: Tensor, A: Tensor, s: dict[str, Any]) -> Tensor:
    w1 = w if s["delta"] is None else w.clamp(max=s["delta"])
    return -torch.min(w1 * A, w.clamp(1 - s["epsilon"], 1 + s["epsilon_high"]) * A)


def sapo(w: Tensor, A: Tensor, s: dict[str, Any]) -> Tensor:
    pos, neg = s["sapo_temperature_pos"], s["sapo_temperature_neg"]
    soft = [4 / tau * torch.sigmoid(tau * (w - 1)) for tau in (pos, neg)]
    return -(soft[0] * A.clamp(min=0) + soft[1] * A.clamp(max=0))


def cispo(w: Tensor, A: Tensor, s: dict[str, Any], lp: Tensor) -> Tensor:
    return -w.detach().clamp(max=s["epsilon_high"]) * A * lp


def vespo(b: Padded, s: dict[str, Any], log_rho: Tensor | float = 0.0) -> Tensor:
    """log_rho: `[R]`, already summed over the row."""
    w = torch.exp((((b.lp - b.old).clamp(-20, 20) * b.m).sum(1) + log_rho).clamp(math.log(1e-8), 20)).detach()
    phi = torch.where(b.A >= 0, w ** s["vespo_k_pos"] * torch.exp(s["vespo_lambda_pos"] * (1 - w)),
                      w ** s["vespo_k_neg"] * torch.exp(s["vespo_lambda_neg"] * (1 - w)))
    return -(phi * b.A)[:, None] * b.lp


def gmpo(b: Padded, s: dict[str, Any]) -> Tensor:
    """`[R, 1]`."""
    u = b.lp - b.old
    c = u.clamp(-s["epsilon"], s["epsilon_high"])
    chosen = torch.where(b.A[:, None] > 0, torch.min(u, c), torch.max(u, c))
    return -(torch.exp((chosen * b.m).sum(1) / b.n) * b.A)[:, None]


def surrogate(name: str, b: Padded, s: dict[str, Any], level: str) -> Tensor:
    """`[R, T]` or `[R, 1]` by the name of the loss."""
    A, w = b.A[:, None], ratio(b, "sequence" if name == "gspo" else level)
    if name == "rloo":
        return clip(torch.exp(((b.lp - b.old) * b.m).sum(1, keepdim=True)), A, {**s, "delta": None})
    by_name = {"cispo": lambda: cispo(w, A, s, b.lp), "sapo": lambda: sapo(w, A, s), "vespo": lambda: vespo(b, s),
               "gmpo": lambda: gmpo(b, s), "reinforce": lambda: -A * b.lp}
    return by_name.get(name, lambda: clip(w, A, s))()


def reduce(name: str, x: Tensor, m: Tensor) -> Tensor:
    """As the papers print it, over the whole step."""
    x = x * m
    if name in ("grpo", "sapo", "gspo", "gmpo", "rloo"):
        return (x.sum(1) / m.sum(1).clamp(min=1)).mean()
    if name == "dr_grpo":
        return x.sum() / (len(x) * LIMIT)
    return x.sum(1).mean() if name == "luspo" else x.sum() / m.sum()
