"""What scripts do with a trainer's numbers when it is done: print them, and write them beside the runs, in transformers' files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from heron.compat.trl.following import State


def metric_lines(split: str, metrics: Mapping[str, Any]) -> list[str]:
    """A heading, and a line for each metric by name."""
    shown = {name: _shown(name, metrics[name]) for name in sorted(metrics)}
    widths = max(map(len, shown), default=0), max(map(len, shown.values()), default=0)
    return [f"***** {split} metrics *****", *(f"  {name:<{widths[0]}} = {value:>{widths[1]}}" for name, value in shown.items())]


def write_metrics(folder: Path, split: str, metrics: Mapping[str, Any], *, combined: bool) -> None:
    """Into `train_results.json`, say; with `combined` they join those of other splits in `all_results.json`."""
    _write(folder / f"{split}_results.json", metrics)
    if combined:
        every = folder / "all_results.json"
        before = json.loads(every.read_text(encoding="utf-8")) if every.is_file() else {}
        _write(every, {**before, **metrics})


def write_state(folder: Path, state: State) -> None:
    """Into `trainer_state.json`."""
    _write(folder / "trainer_state.json", dataclasses.asdict(state))


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def _shown(name: str, value: Any) -> str:
    if name.endswith("_runtime"):
        return f"{timedelta(seconds=int(value))}.{int(value % 1 * 100):02d}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
