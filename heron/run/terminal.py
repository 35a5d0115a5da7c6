"""The live view: a listener that shows a run as it happens. `writer.subscribe(TerminalView())`.

The one hard idea: the same stream drives two very different outputs. A terminal gets one panel that is redrawn in place; anything
else (a pipe, a log file, CI) gets about twenty plain lines for a whole run, however many steps it has.

Left out: drawing (see `panels`) and the table at the end (see `report`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from heron.run.alerts import Alert
from heron.run.panels import View, alert_line, evaluation_line, live_panel, plain_line, start_lines
from heron.run.text import clean

LINES = 20
"""Step lines of a whole run, where it is not a terminal."""
SILENCE = 300.0
"""Seconds after which a slow run says something anyway."""
SLOW_PHASES = ("warm-up", "evaluate")
"""Phases outside of the steps, which a log file hears of when they begin."""


class TerminalView:
    """Shows a run on a console. Give it to `RunWriter.subscribe`; as a context manager it also tidies up after an exception."""

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._view = View(began=clock())
        self._changing = threading.RLock()  # a listener, or a signal handler, may speak while one is being heard
        console = console or Console()
        self._out: _Live | _Plain = _Live(self, console) if _can_redraw(console) else _Plain(self, console)

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hear of one thing that happened."""
        with self._changing:
            _learn(self._view, kind, payload)
            if kind == "start" and "time" in payload:  # read from a record, perhaps long after
                self._view.began = self._clock() - (time.time() - payload["time"])
        self._out.show(kind, payload)
        if kind == "end":
            self.close()

    def close(self) -> None:
        """Stop redrawing and leave the last picture on the screen."""
        self._out.close()

    def __enter__(self) -> TerminalView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def view(self) -> View:
        """What has been heard so far."""
        return self._view

    def now(self) -> float:
        """The clock that times are measured with."""
        return self._clock()

    def picture(self) -> RenderableType:
        """The panel as of now; called from the thread that redraws."""
        with self._changing:
            return live_panel(self._view, self._clock())


class _Live:
    """A panel, redrawn in place; what must stay is printed above it."""

    def __init__(self, owner: TerminalView, console: Console) -> None:
        self._owner = owner
        self._live = Live(get_renderable=owner.picture, console=console, refresh_per_second=3, vertical_overflow="ellipsis")

    def show(self, kind: str, payload: Mapping[str, Any]) -> None:
        if not self._live.is_started and kind != "end":
            self._live.start(refresh=False)
        if kind == "message":
            self._live.console.print(Text(clean(payload["text"])))
        elif kind == "start":
            for line in start_lines(payload):
                self._live.console.print(Text(line, style="dim"), soft_wrap=True)

    def close(self) -> None:
        if self._live.is_started:
            self._live.stop()


class _Plain:
    """About twenty lines for a whole run."""

    def __init__(self, owner: TerminalView, console: Console) -> None:
        self._owner, self._console = owner, console
        self._spoke = owner.now()
        self._phase = ""

    def show(self, kind: str, payload: Mapping[str, Any]) -> None:
        for line in self._lines(kind, payload):
            self._console.print(Text(line), soft_wrap=True)
            self._spoke = self._owner.now()

    def close(self) -> None:
        """Every line is out already."""

    def _lines(self, kind: str, payload: Mapping[str, Any]) -> list[str]:
        if kind == "metrics":
            return [plain_line(self._owner.view)] if self._is_due() else []
        if kind == "alert":
            return [alert_line(self._owner.view.alerts[-1])]
        if kind == "progress":
            return self._phase_lines(payload)
        if kind == "start":
            return start_lines(payload)
        if kind == "evaluation":
            return [evaluation_line(payload["name"], payload["totals"])]
        return [clean(payload["text"])] if kind == "message" else []

    def _is_due(self) -> bool:
        view = self._owner.view
        every = max(1, -(-view.max_steps // LINES))
        return len(view.metrics) == 1 or view.step % every == 0 or view.step == view.max_steps or self._owner.now() - self._spoke > SILENCE

    def _phase_lines(self, payload: Mapping[str, Any]) -> list[str]:
        begins = payload["phase"] != self._phase
        self._phase = payload["phase"]
        return [f"{clean(self._phase)} ..."] if begins and self._phase in SLOW_PHASES else []


def _can_redraw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


def _learn(view: View, kind: str, payload: Mapping[str, Any]) -> None:
    if kind == "start":
        view.start = payload
    elif kind == "metrics":
        view.remember(payload)
    elif kind == "progress":
        view.progress = (payload["phase"], payload["done"], payload["total"])
    elif kind == "evaluation":
        view.evaluations[payload["name"]] = payload["totals"]
    elif kind == "alert":
        view.alerts.append(Alert(**{key: str(payload[key]) for key in ("id", "title", "evidence", "advice")}))
