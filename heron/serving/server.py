"""The HTTP side: `/v1/chat/completions`, `/v1/models` and `/health`, on the standard library.

The one hard idea: a model on the loopback address is still within reach of every web page that the user has open. Without a token the
server therefore listens on loopback alone, answers only requests that name a loopback host (a page cannot fake that), and
takes only `application/json` (a page may not send that across origins without asking, and is not answered). With a
token, every call to `/v1/` must bring it. Left out: TLS, and limits per client; put a reverse proxy in front for those.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from heron.errors import ConfigError
from heron.serving.chat import ChatModel, events, open_model
from heron.serving.requests import Refusal, parse

MAX_BODY = 4 * 2**20
"""Largest request body in bytes."""


def serve(source: str | Path, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> None:
    """Serve a run's model, or a model folder, until Ctrl-C.

    Args:
        source: run directory or model folder.
        host: address to listen on; another than loopback needs a token.
        port: port to listen on; 0 takes a free one.
        token: clients must send it as `Authorization: Bearer TOKEN`.
    """
    check_address(host, port, token)
    model = open_model(source)
    with make_server(model, host=host, port=port, token=token) as server:
        print(f"{model.name} at {server.url}/v1 (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")


def make_server(model: ChatModel, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> Server:
    """A server that is bound but not yet serving; call `serve_forever`, and close it in the end."""
    check_address(host, port, token)
    try:
        return Server(model, host, port, token)
    except OSError as error:
        raise ConfigError(f"The server cannot listen on {host}:{port}: {error}. Choose another port or host.") from error


def check_address(host: str, port: int, token: str | None) -> None:
    """ConfigError where a server may not listen, or only with a token."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"port must be between 0 and 65535, but it is {port}.")
    if token is not None and (not token.strip() or not token.isascii()):
        raise ConfigError("token must be ASCII text that is not empty. Make one with: openssl rand -hex 32")
    if token is None and not is_loopback(host):
        raise ConfigError(f"host {host} can be reached from other machines, so a token is required. Give one, or listen on 127.0.0.1.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(ThreadingHTTPServer):
    """Holds the model and the token; a thread per connection, sampling one at a time."""

    daemon_threads = True

    def __init__(self, model: ChatModel, host: str, port: int, token: str | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.model = model
        self.token = token
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a client may keep a connection without a word

    def do_GET(self) -> None:
        self._answer({"/health": self._health, "/v1/models": self._models}, others=("/v1/chat/completions",))

    def do_POST(self) -> None:
        self._answer({"/v1/chat/completions": self._chat}, others=("/health", "/v1/models"))

    def _answer(self, routes: dict[str, Any], *, others: tuple[str, ...]) -> None:
        """The boundary of a request: whatever goes wrong in it is answered as JSON, and the server goes on."""
        path = self.path.partition("?")[0]
        try:
            self._check_sender(path)
            if path in others:
                raise Refusal(f"{path} does not answer {self.command}.", status=405)
            if path not in routes:
                raise Refusal(f"There is nothing at {path}; there are /v1/chat/completions, /v1/models and /health.", status=404)
            routes[path]()
        except Refusal as error:
            self._refuse(error)
        except (ConnectionError, TimeoutError) as error:
            self.log_error("the client went away: %r", error)
            self.close_connection = True
        except Exception as error:
            self.log_error("%s", traceback.format_exc())
            self._refuse(Refusal(f"The server failed: {type(error).__name__}: {error}", status=500))

    def _check_sender(self, path: str) -> None:
        token = self.server.token
        if token is None:
            host = self.headers.get("Host", "").rpartition("@")[2]
            name = host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
            if not is_loopback(name):
                raise Refusal(f"This server answers to localhost, not to {host!r}.", status=403)
        elif path != "/health":
            given = self.headers.get("Authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                raise Refusal("The token is missing or wrong. Send it as `Authorization: Bearer TOKEN`.", status=401)

    def _health(self) -> None:
        self._send_json({"status": "ok", "model": self.server.model.name})

    def _models(self) -> None:
        entry = {"id": self.server.model.name, "object": "model", "created": 0, "owned_by": "heron"}
        self._send_json({"object": "list", "data": [entry]})

    def _chat(self) -> None:
        request = parse(self._body(), model=self.server.model.name)
        answer = self.server.model.complete(request)
        if request.is_stream:
            stream = "".join(events(answer, wants_usage=request.wants_usage))
            self._send(200, "text/event-stream; charset=utf-8", stream.encode())
        else:
            self._send_json(answer)

    def _body(self) -> Any:
        kind = self.headers.get_content_type()
        if kind != "application/json":
            raise Refusal(f"The body must be sent as application/json, not as {kind}.", status=415)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refusal("The request must say its Content-Length.", status=411)
        if int(length) > MAX_BODY:
            raise Refusal(f"The body has {length} bytes; at most {MAX_BODY} are read.", status=413)
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refusal(f"The body is not valid JSON: {error}.") from error

    def _refuse(self, error: Refusal) -> None:
        self.close_connection = True  # the body may not have been read
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        details = {"message": str(error), "type": kind, "param": error.field, "code": error.status}
        self._send_json({"error": details}, status=error.status)

    def _send_json(self, value: dict[str, Any], *, status: int = 200) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
