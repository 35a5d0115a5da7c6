"""TensorBoard's event files, in `tensorboard/` of the run directory: `tensorboard --logdir runs`. Needs the extra `tensorboard`.

Written with the package's own writer; torch's would load torch, which a viewer of a run can do without.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.run.sinks.values import held_out, scalars


class TensorBoardSink:
    """Listens to metrics and evaluations."""

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(run_dir / "tensorboard"))

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind == "metrics":
            self._add(scalars(payload), payload["step"])
        elif kind == "evaluation":
            self._add(held_out(payload), payload["totals"].get("step", 0))
        elif kind == "end":
            self._writer.close()

    def _add(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
