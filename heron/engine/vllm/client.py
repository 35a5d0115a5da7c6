"""HTTP to a vLLM server: JSON in, JSON out.

The one hard idea: every wait ends. Each call has a time limit and says, when it is over, what was awaited; and calls under way (`Calls`)
can be hung up from outside, upon which vLLM stops sampling for them. What it leaves out: retries (a lost answer is an error, not a delay).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from heron.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server said."""

    status: int
    """HTTP status."""
    body: Any
    """Parsed if it is JSON, else text."""

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


class Calls:
    """Calls that are hung up together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._is_over = False

    @contextlib.contextmanager
    def holding(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """While inside, the connection can be hung up; an OSError if that has happened. It is connected before, so that it can be."""
        with self._lock:
            if self._is_over:
                raise ConnectionAbortedError("hung up")
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def hang_up(self) -> None:
        """End those under way, and those that would begin: each raises its EngineError where it waits."""
        with self._lock:
            self._is_over = True
            for connection in self._open:
                with contextlib.suppress(OSError):  # it may have ended by itself
                    connection.sock.shutdown(socket.SHUT_RDWR)


class Client:
    """Calls to one server.

    Args:
        url: such as `http://127.0.0.1:8000`, with or without `/v1`.
        timeout: seconds that a call may take.
        api_key: sent as a bearer token.
    """

    def __init__(self, url: str, *, timeout: float, api_key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"{url!r} is not the address of a server. Give one such as http://127.0.0.1:8000.")
        self.url, self.timeout = url, timeout
        self._is_tls, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | ({} if api_key is None else {"Authorization": f"Bearer {api_key}"})

    def good(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, awaited: str, calls: Calls | None = None
    ) -> Any:
        """The body of a reply; an EngineError if the server refuses. `awaited` says what this is for."""
        reply = self.call(method, path, body, awaited=awaited, calls=calls)
        if not reply.is_good:
            raise EngineError(f"vLLM at {self.url} refused {awaited}: HTTP {reply.status} from {path}: {_brief(reply.body)}")
        return reply.body

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, awaited: str, calls: Calls | None = None
    ) -> Reply:
        """A reply, whatever its status."""
        make = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self.timeout)
        try:
            connection.connect()
            with (calls or Calls()).holding(connection):
                connection.request(method, self._base + path, None if body is None else json.dumps(body), self._headers)
                response = connection.getresponse()
                return Reply(status=response.status, body=_parsed(response.read()))
        except TimeoutError as error:
            raise EngineError(f"vLLM at {self.url} has not sent {awaited} within {self.timeout:g} seconds. Is the server busy with "
                              "others? Raise the engine's timeout, or look into the server's log.") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"vLLM at {self.url} could not be reached for {awaited}: {type(error).__name__}: {error}. Is the server "
                              "running?") from error
        finally:
            connection.close()


def _parsed(raw: bytes) -> Any:
    text = raw.decode("utf-8", errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _brief(body: Any) -> str:
    """The server's own words, not too many of them."""
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:400]
