"""Copies of a run's numbers for other trackers: each sink is a listener, so it hears what was recorded, and can stop nothing.

The one hard idea: the record is the truth and a sink its copy. A tracker that fails, or cannot be opened, is left out with a warning, and
what it missed is in the run directory. Nothing is sent anywhere unless `train.report_to` names it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.errors import MissingExtra
from heron.run.sinks.csv import CsvSink
from heron.run.sinks.tensorboard import TensorBoardSink
from heron.run.sinks.trackers import trackio_sink, wandb_sink
from heron.run.writer import Listener, RunWriter

Opened = Callable[[Path, Mapping[str, Any]], Listener]

SINKS: Mapping[str, Opened] = {"csv": CsvSink, "tensorboard": TensorBoardSink, "trackio": trackio_sink, "wandb": wandb_sink}
"""By the name that `train.report_to` knows; called with the run directory and the settings."""


def check_sinks(names: Sequence[str]) -> None:
    """Raises MissingExtra for a tracker that is not installed. Package and extra have its name; a table needs neither."""
    for name in names:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise MissingExtra(name, name, f"train.report_to = [{name!r}]")


def subscribe_sinks(run: RunWriter, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Open each tracker and let it hear the run; `check_sinks` has seen that it is there."""
    for name in names:
        try:
            run.subscribe(SINKS[name](run.path, settings))
        except Exception as error:  # boundary: somebody else's package, or their server
            warnings.warn(f"The tracker {name} could not be opened and is left out: {error!r}. Training goes on.", stacklevel=2)
            run.event("listener_failed", on="open", tracker=name, error=repr(error))

