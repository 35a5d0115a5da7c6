"""Copies of a run's numbers for other trackers: each sink is a listener, so it hears what was recorded, and can stop nothing.

The one hard idea: the record is the truth and a sink its copy. A tracker that fails is switched off with a warning, and what it missed
is in the run directory. Nothing is sent anywhere unless `train.report_to` names it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.errors import MissingExtra
from heron.run.sinks.csv import CsvSink
from heron.run.sinks.tensorboard import TensorBoardSink
from heron.run.sinks.trackers import trackio_sink, wandb_sink
from heron.run.writer import Listener

Opened = Callable[[Path, Mapping[str, Any]], Listener]

SINKS: Mapping[str, Opened] = {"csv": CsvSink, "tensorboard": TensorBoardSink, "trackio": trackio_sink, "wandb": wandb_sink}
"""By the name that `train.report_to` knows; called with the run directory and the settings."""


def check_sinks(names: Sequence[str]) -> None:
    """Raises MissingExtra for a tracker that is not installed. Package and extra have its name; a table needs neither."""
    for name in names:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise MissingExtra(name, name, f"train.report_to = [{name!r}]")


def open_sinks(names: Sequence[str], run_dir: Path, settings: Mapping[str, Any]) -> list[Listener]:
    """The listeners to subscribe. Raises MissingExtra as `check_sinks` does."""
    check_sinks(names)
    return [SINKS[name](run_dir, settings) for name in names]

