"""Copies of a run's numbers for other trackers: each sink is a listener, so it hears what was recorded, and can stop nothing.

The one hard idea: the record is the truth and a sink its copy. A tracker that fails is switched off with a warning, and what it missed
is in the run directory. Nothing is sent anywhere unless `train.report_to` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.run.sinks.csv import CsvSink
from heron.run.sinks.tensorboard import TensorBoardSink
from heron.run.sinks.trackio import TrackioSink
from heron.run.sinks.wandb import WandbSink
from heron.run.writer import Listener

Opened = Callable[[Path, Mapping[str, Any]], Listener]

SINKS: Mapping[str, Opened] = {"csv": CsvSink, "tensorboard": TensorBoardSink, "trackio": TrackioSink, "wandb": WandbSink}
"""By the name that `train.report_to` knows; called with the run directory and the settings."""


def check_sinks(names: Sequence[str]) -> None:
    """Raises MissingExtra for a tracker that is not installed."""
    for name in names:
        check = getattr(SINKS[name], "check", None)
        if check is not None:
            check()


def open_sinks(names: Sequence[str], run_dir: Path, settings: Mapping[str, Any]) -> list[Listener]:
    """The listeners to subscribe."""
    return [SINKS[name](run_dir, settings) for name in names]

