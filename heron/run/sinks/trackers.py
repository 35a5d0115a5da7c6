"""Trackers with a service or a database of their own. Each needs the extra of its name.

The one hard idea: a run is known there by the random id that its manifest has kept since it was made, so runs in folders of one name stay
apart, and a resumed, moved or copied run stays the same.

- Trackio keeps its database on this machine (`trackio show`). Its writer runs in the background and may lose the last half second of a
  killed run; the run directory does not.
- Weights & Biases sends the numbers to its server, unless WANDB_MODE=offline says not to. Steps only grow there: those that a resumed run
  takes back and repeats are not replaced by it, as they are in the run directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.run.reader import Run
from heron.run.sinks.values import held_out, scalars

PROJECT = "heron"


class TrackerSink:
    """Tells an opened run of a tracker, which has `log(values, step=...)` and `finish()`, the metrics and evaluations."""

    def __init__(self, opened: Any) -> None:
        self._run = opened

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind == "metrics":
            self._run.log(scalars(payload), step=payload["step"])
        elif kind == "evaluation":
            self._run.log(held_out(payload), step=payload["totals"].get("step", 0))
        elif kind == "end":
            self._run.finish()


def trackio_sink(run_dir: Path, settings: Mapping[str, Any]) -> TrackerSink:
    """Opened under the run's name and id, since names are all that it tells runs apart by; a resumed run goes on with it."""
    import trackio

    name = " ".join(dict.fromkeys(_identity(run_dir)))
    return TrackerSink(trackio.init(project=PROJECT, name=name, config=dict(settings), resume="allow", embed=False))


def wandb_sink(run_dir: Path, settings: Mapping[str, Any]) -> TrackerSink:
    """Opened under the run's name; a resumed run goes on with it."""
    import wandb

    name, identity = _identity(run_dir)
    return TrackerSink(wandb.init(project=PROJECT, name=name, id=identity, dir=str(run_dir), config=dict(settings), resume="allow"))


def _identity(run_dir: Path) -> tuple[str, str]:
    """The run's name and its id; one and the same in a run that was recorded before there were ids."""
    manifest = Run(run_dir).manifest
    return str(manifest.get("name", manifest["id"])), str(manifest["id"])
