"""Which step was the best so far, by a figure of the held-out problems: a function of the evaluations, so there is no state to lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def best_step(evaluations: Mapping[str, Mapping[str, Any]], metric: str | None) -> int | None:
    """The step whose figure is the highest, the first of equals; None where nothing was measured after a step."""
    measured = [
        (totals[metric], -totals["step"]) for totals in evaluations.values()
        if metric is not None and totals["step"] > 0 and totals.get(metric) is not None
    ]
    return -max(measured)[1] if measured else None
