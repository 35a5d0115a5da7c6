"""A local web page over run directories: `serve("runs")`. It reads, and changes nothing. Needs the extra `ui`."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heron.errors import MissingExtra

if TYPE_CHECKING:
    from heron.dashboard.server import Dashboard

PACKAGES = ("starlette", "uvicorn", "plotly")


def serve(folder: str | Path, *, port: int = 0, defaults: Callable[[], Mapping[str, Any]] = dict) -> None:
    """Print the address of a page over the runs in `folder`, and serve it until Ctrl-C."""
    dashboard = open_dashboard(folder, port=port, defaults=defaults)
    print(f"Open {dashboard.url}\nCtrl-C ends it; training does not mind.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        dashboard.serve_forever()


def open_dashboard(folder: str | Path, *, port: int = 0, defaults: Callable[[], Mapping[str, Any]] = dict) -> Dashboard:
    """A page over the runs in `folder`, with its port taken and not yet served: see `Dashboard.start`."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "ui", "The dashboard")
    from heron.dashboard.server import Dashboard

    return Dashboard(folder, port=port, defaults=defaults)


__all__ = ["open_dashboard", "serve"]
