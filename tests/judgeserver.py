"""A server that speaks the chat-completions protocol on a free port of this machine, and does what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FakeJudge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.times.append(time.monotonic())
            behaviour = self.server.script.pop(0) if self.server.script else self.server.usual
        behaviour(self, body)

    def send(self, status: int, payload: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Silence."""


class FakeJudge(ThreadingHTTPServer):
    """Takes the script's behaviours one by one, then does the usual."""

    daemon_threads = True

    def __init__(self, usual: Behaviour) -> None:
        self.usual, self.script = usual, []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def running(usual: Behaviour) -> Iterator[FakeJudge]:
    with FakeJudge(usual) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def says(text: str | Callable[[dict[str, Any]], str], *, tokens: int | None = 10) -> Behaviour:
    """Answers with a text, or with what a function makes of the request."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        content = text if isinstance(text, str) else text(body)
        answer: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": content}}]}
        if tokens is not None:
            answer["usage"] = {"total_tokens": tokens}
        handler.send(200, json.dumps(answer).encode())

    return behave


def fails(status: int, **headers: str) -> Behaviour:
    """Answers with a status that is no success."""
    return lambda handler, body: handler.send(status, b'{"error": "no"}', **headers)


def scores(**given: int) -> str:
    """A well-formed answer."""
    return json.dumps({name: {"evidence": "", "score": score} for name, score in given.items()})


def reply_in(body: dict[str, Any]) -> str:
    """What stands between the markers of the last message, or of the last one that has some."""
    for message in reversed(body["messages"]):
        if "<reply " in message["content"]:
            return str(message["content"].split(">\n", 1)[1].rsplit("\n</reply ", 1)[0])
    raise AssertionError("no reply was shown")
