"""The page's server: a port of this machine, a token, and a thread to answer from.

The one hard idea: the port is taken when a `Dashboard` is made, so that a taken port is said at once and the address is known before
anything is served. It listens on 127.0.0.1 only; `guard` says who may ask, `routes` what is answered.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from heron.dashboard.guard import Guard
from heron.dashboard.routes import make_app
from heron.dashboard.shelf import Shelf
from heron.errors import ConfigError

PATIENCE_S = 5
"""Seconds that `close` waits for the server's thread."""


class Dashboard:
    """The page over the runs in `folder`. `serve_forever` blocks; `start` serves from a thread; `close` ends it. `defaults` are asked for
    what a setting is that a run has not recorded."""

    def __init__(
        self, folder: str | Path, *, port: int = 0, token: str | None = None, defaults: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self.shelf = Shelf(Path(folder), defaults)
        self.token = token or secrets.token_urlsafe(24)
        self._socket = _take(port)
        self._closing = threading.Event()
        app = Guard(make_app(self.shelf, self._closing), token=self.token, cookie=f"heron_{self.port}")  # all ports share their cookies
        self._server = uvicorn.Server(uvicorn.Config(
            app, lifespan="off", log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=1, ws="none",
        ))
        self._thread = threading.Thread(target=self.serve_forever, name="heron-dashboard", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on (a free one was chosen if 0 was asked for)."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address to open first; it carries the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def serve_forever(self) -> None:
        """Answer requests until `close` is called or Ctrl-C is pressed."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._closing.set()
            self.shelf.close()

    def start(self) -> None:
        """Answer requests from a thread that ends with the process."""
        self._thread.start()

    def close(self) -> None:
        """Stop a dashboard that was started with `start`, and free the port."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()


def _take(port: int) -> socket.socket:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay of 40 ms on
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", port))
        taken.listen()
    except (OSError, OverflowError) as error:
        taken.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Port {port} cannot be used ({reason}). Choose another one; 0 takes a free one.") from error
    return taken
