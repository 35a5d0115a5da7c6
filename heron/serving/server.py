"""A port, the routes on it, and the thread that samples: `Server`, and `serve` for the command line.

The one hard idea: the port is taken before the model is loaded, so that a taken port is said at once. Ctrl-C ends streams with an error
that says so, then the server; a second one does not wait for anybody.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from heron.errors import ConfigError
from heron.serving.address import check_address
from heron.serving.app import Routes
from heron.serving.batching import Batcher
from heron.serving.model import MAX_CONCURRENT, ServedModel, open_model

MAX_WAITING = 256
"""Answers that may wait for a place among those in the making; beyond them clients are told to come again."""
IDLE_S = 75
"""Seconds that a connection may be kept between two requests."""
PATIENCE_S = 5
"""Seconds for answers that are being sent when the server ends."""


def serve(
    source: str | Path, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None, max_concurrent: int = MAX_CONCURRENT,
    max_waiting: int = MAX_WAITING, cache_gib: float | None = None,
) -> None:
    """Serve a run's model, or a model folder, until Ctrl-C.

    Args:
        source: run directory or model folder.
        host: address to listen on; another than loopback needs a token.
        port: port to listen on; 0 takes a free one.
        token: clients must send it as `Authorization: Bearer TOKEN`.
        max_concurrent: answers in the making at once.
        max_waiting: further answers that may wait for that.
        cache_gib: memory for keys and values in GiB; None: half of what is free on a CPU, 80 % of it on a GPU.
    """
    check_address(host, port, token)
    with _taken(host, port) as listening:
        model = open_model(source, max_concurrent=max_concurrent, cache_gib=cache_gib)
        with Server(model, listening, token, max_waiting) as server:
            print(f"{model.name} at {server.url}/v1 (Ctrl-C ends)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
            print("ended", flush=True)  # also where uvicorn's loop was over before the signal was raised again


def make_server(
    model: ServedModel, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None, max_waiting: int = MAX_WAITING
) -> Server:
    """A server that has its port but does not answer yet: `serve_forever` blocks, `start` serves from a thread; close it in the end."""
    check_address(host, port, token)
    return Server(model, _taken(host, port), token, max_waiting)


class Server:
    """Answers for one model on one port."""

    def __init__(self, model: ServedModel, listening: socket.socket, token: str | None, max_waiting: int) -> None:
        self.batcher = Batcher(model.engine.open, places=model.engine.max_concurrent, max_waiting=max_waiting)
        self._socket = listening
        app = Routes(model, self.batcher, token).app()
        self._server = _Uvicorn(self.batcher, uvicorn.Config(
            app, lifespan="off", log_level="critical", access_log=False, server_header=False, ws="none", timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=PATIENCE_S,
        ))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, name="heron-serve", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens (a free one was chosen if 0 was asked for)."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address, without a path."""
        host = self._socket.getsockname()[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def serve_forever(self) -> None:
        """Answer until Ctrl-C."""
        self.batcher.start()
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Answer from a thread, until `close`."""
        self.batcher.start()
        self._thread.start()

    def close(self) -> None:
        """End what is in flight, and free the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S + 1)
        self.batcher.close()
        self._socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Uvicorn(uvicorn.Server):
    """Ends what is in the making first: otherwise it would wait for every stream to come to its own end."""

    def __init__(self, batcher: Batcher, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._batcher = batcher

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        self._batcher.end()
        await super().shutdown(sockets)


def _taken(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay of 40 ms on
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()
    except OSError as error:
        taken.close()
        raise ConfigError(f"The server cannot listen on {host}:{port}: {error}. Choose another port or host.") from error
    return taken
