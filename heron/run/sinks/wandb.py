"""Weights & Biases: sends the numbers to its server, unless WANDB_MODE=offline says not to. Needs the extra `wandb`.

Steps only grow there: those that a resumed run takes back and repeats are not replaced by it, as they are in the run directory.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.errors import MissingExtra
from heron.run.sinks.values import held_out, scalars

PROJECT = "heron"


class WandbSink:
    """Listens to metrics and evaluations."""

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        self.check()
        import wandb

        name = run_dir.resolve().name
        self._run = wandb.init(project=PROJECT, name=name, id=name, dir=str(run_dir), config=dict(settings), resume="allow")

    @staticmethod
    def check() -> None:
        """It is installed."""
        if importlib.util.find_spec("wandb") is None:
            raise MissingExtra("wandb", "wandb", "train.report_to = ['wandb']")

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind == "metrics":
            self._run.log(scalars(payload), step=payload["step"])
        elif kind == "evaluation":
            self._run.log(held_out(payload), step=payload["totals"].get("step", 0))
        elif kind == "end":
            self._run.finish()
