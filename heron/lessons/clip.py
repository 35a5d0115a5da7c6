"""The lesson `clip`: what a token adds to the objective, and with which gradient, by how far it has moved already.

The one hard idea: the clip never moves a token back. It takes the gradient away from a token that has moved far enough in the direction
that its advantage asks for, so that more steps on the same answers cannot push it on. Where a token has moved the *wrong* way, the
gradient stays, also outside the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from rich.console import RenderableType
from rich.text import Text

from heron.lessons.drawing import figure, signed, text
from heron.objective import Objective, Tokens, find_loss
from heron.run.text import number

RATIOS = tuple(round(0.5 + 0.1 * index, 1) for index in range(14))
"""From half to almost twice the old probability."""
BLOCKS = 8
"""Of a bar, for an objective of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One token."""

    ratio: float
    """Its new probability by its old one."""
    objective: float
    """Minus its loss."""
    gradient: float
    """Of the objective by the token's log-prob; 0: the token is left alone."""


def points(loss: str, settings: Mapping[str, float], *, advantage: float) -> list[Point]:
    """The loss of a run, at every ratio, each on an answer of its own that is one token long."""
    logprobs = torch.tensor(RATIOS, dtype=torch.float64).log().requires_grad_()
    ones = torch.ones(len(RATIOS), dtype=torch.float64)
    step = Objective(loss=find_loss(loss), settings=settings)
    # one micro-batch for each token: its weight is 1, so its loss is the surrogate itself
    losses = [step(Tokens(logprobs=logprobs[[index]], old_logprobs=ones[:1] * 0, advantages=ones[:1] * advantage,
                          rows=torch.zeros(1, dtype=torch.int64), weights=ones[:1])).loss for index in range(len(RATIOS))]
    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), logprobs)
    return [Point(ratio=ratio, objective=-float(each.detach()), gradient=-value)
            for ratio, each, value in zip(RATIOS, losses, gradient.tolist(), strict=True)]


def shown(loss: str, settings: Mapping[str, float]) -> list[RenderableType]:
    """Both signs of the advantage, a row for each ratio."""
    drawn = figure("ratio", "advantage +1", "gradient", "advantage -1", "gradient")
    for better, worse in zip(*(points(loss, settings, advantage=sign) for sign in (1.0, -1.0)), strict=True):
        drawn.add_row(number(better.ratio, 1), *_cells(better), *_cells(worse), style="bold" if better.ratio == 1 else "")
    named = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    return [
        drawn, text(f"Loss {loss}, {named}. Ratio: the token's new probability by the one it was drawn with; 1.0 before anything moved."),
        text("The bar is what the token adds to the objective. Where the gradient is 0, the clip has taken it away: this token is not "
             "pushed any further."),
    ]


def _cells(point: Point) -> tuple[Text, Text]:
    bar = "█" * round(BLOCKS * abs(point.objective))
    style = "dim" if point.gradient == 0 else "green" if point.objective > 0 else "red"
    return Text(f"{bar} {signed(point.objective)}", style=style), Text(signed(point.gradient), style=style)
