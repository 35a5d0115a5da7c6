"""A table that every spreadsheet opens: `metrics.csv` in the run directory, a row per step.

The one hard idea: a table's columns are fixed by its first line, but a step may log a name for the first time. So the file is written
anew, in one step, when a column comes; in between, rows are appended.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.run import records
from heron.run.sinks.values import scalars


class CsvSink:
    """Listens to metrics."""

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        self._path = run_dir / "metrics.csv"
        self._source = run_dir / "metrics.jsonl"
        self._columns: list[str] = []

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        if kind != "metrics":
            return
        if set(payload) <= set(self._columns):
            with open(self._path, "a", encoding="utf-8", newline="") as file:
                file.write(_table(self._columns, [{"step": payload["step"], **scalars(payload)}]))
        else:
            self._write_anew()

    def _write_anew(self) -> None:
        rows = records.read_strictly(self._source)
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        content = _table(self._columns, [{name: name for name in self._columns}, *rows])
        records.replace(self._path, content.encode(), sync=False)


def _table(columns: list[str], rows: list[Mapping[str, Any]]) -> str:
    """Missing numbers are empty cells."""
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()
