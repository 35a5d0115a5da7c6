"""Trackio, which keeps its own database on this machine: `trackio show`. Needs the extra `trackio`.

Its writer runs in the background and may lose the last half second of a killed run; the run directory does not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.errors import MissingExtra
from heron.run.sinks.values import held_out, scalars

PROJECT = "heron"


class TrackioSink:
    """Listens to metrics and evaluations."""

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        self.check()
        import trackio

        self._run = trackio.init(project=PROJECT, name=run_dir.resolve().name, config=dict(settings), resume="allow", embed=False)

    @staticmethod
    def check() -> None:
        """It is installed."""
        if importlib.util.find_spec("trackio") is None:
            raise MissingExtra("trackio", "trackio", "train.report_to = ['trackio']")

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind == "metrics":
            self._run.log(scalars(payload), step=payload["step"])
        elif kind == "evaluation":
            self._run.log(held_out(payload), step=payload["totals"].get("step", 0))
        elif kind == "end":
            self._run.finish()
