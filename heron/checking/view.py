"""The live view of a check: one line for each thing that is said, and a bar for what takes long, on a terminal alone.

It writes to the error output, so that what is found can be piped.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from heron.run.text import clean


class CheckView:
    """A listener for `check`. Use it in a `with`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=self._console,
            transient=True, disable=not self._console.is_terminal,
        )
        self._phases: dict[str, Any] = {}

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of a message or of progress."""
        if kind == "message":
            self._console.print(Text(clean(payload["text"]), style="dim"), soft_wrap=True)
        elif kind == "progress":
            phase = str(payload["phase"])
            if phase not in self._phases:
                self._phases[phase] = self._bars.add_task(phase)
            self._bars.update(self._phases[phase], completed=payload["done"], total=payload["total"])

    def __enter__(self) -> CheckView:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()
