"""A step's metrics under TRL's names.

The one hard idea: TRL has a number for what Heron does not measure because nothing was there. No answer ended: their length is 0. All
rewards of each group are equal: the loss, the gradient and the clipped share are 0. A script that plots them finds the same here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

RENAMED = {"time/step": "step_time"}
"""Metrics that have another name in TRL."""
OF_CISPO = {"clip_ratio/high_mean": "cispo_clip_ratio"}
"""The same with this loss alone."""
ENDED = tuple(f"completions/{which}_terminated_length" for which in ("mean", "min", "max"))
CLIPPED = {
    **dict.fromkeys(("grpo", "bnpo", "dr_grpo", "dapo", "luspo"), tuple(f"clip_ratio/{which}_mean" for which in ("low", "high", "region"))),
    "cispo": ("cispo_clip_ratio",),
}
"""What a loss says of its clipping."""


def named(record: Mapping[str, Any], loss_type: str) -> dict[str, float]:
    """The metrics of one step; those that TRL has no name for under their own."""
    names = RENAMED | (OF_CISPO if loss_type == "cispo" else {})
    found = {
        names.get(name, name.removeprefix("logged/")): float(value)
        for name, value in record.items() if name != "step" and isinstance(value, int | float)
    }
    still = ("loss", "grad_norm", *CLIPPED.get(loss_type, ())) if found.get("frac_rollouts_trained") == 0 else ()
    return with_endings(dict.fromkeys(still, 0.0) | found)


def with_endings(metrics: Mapping[str, float]) -> dict[str, float]:
    """Lengths of the answers that ended, 0 where none did."""
    return dict.fromkeys(ENDED, 0.0) | dict(metrics)


def means(steps: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means over steps; of what was not measured in each of them, over those in which it was. None for the rewards of a function that
    returned None throughout."""
    names = dict.fromkeys(name for step in steps for name in step)
    silent = [name.removesuffix("none") + which for name in names if name.startswith("rewards/") and name.endswith("/none")
              for which in ("mean", "std")]
    found = {name: fmean(step[name] for step in steps if name in step) for name in names}
    latest = {name: steps[-1][name] for name in ("num_tokens", "learning_rate") if name in steps[-1]}
    return dict.fromkeys(silent) | found | latest
