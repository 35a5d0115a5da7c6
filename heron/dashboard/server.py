"""Serves the page and its data to the one person who started it.

The one hard idea: a web server on your own machine can be reached by every web page that you open. So it listens on 127.0.0.1 only,
answers only requests that name it by that address (against DNS rebinding), and asks for a random token, which arrives once in the
address and lives in a cookie from then on. The page may load nothing from elsewhere, and the server can only read.

Left out: other users and other machines; forward the port with ssh for that.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from heron.dashboard.views import Shelf
from heron.errors import ConfigError, RunError
from heron.run import list_runs
from heron.run.records import to_json

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in ("app", "charts", "dom", "panels", "rollouts")},
}
"""All that is served from disk besides run directories."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

NO_TOKEN = "This page needs the token that `heron ui` printed: open the address it shows, with ?token=... at its end.\n"
WRONG_HOST = "This server answers only to 127.0.0.1 and localhost.\n"


def serve(folder: str | Path, *, port: int = 0) -> None:
    """Print the address of a page over the runs in `folder`, and serve it until Ctrl-C."""
    dashboard = Dashboard(folder, port=port)
    print(f"Open {dashboard.url}\nCtrl-C ends it; training does not mind.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        dashboard.serve_forever()


class Dashboard:
    """The page over the runs in `folder`. `serve_forever` blocks; `start` serves from a thread; `close` ends it."""

    def __init__(self, folder: str | Path, *, port: int = 0, token: str | None = None) -> None:
        list_runs(folder)
        self.token = token or secrets.token_urlsafe(24)
        try:
            self._server = _Server(("127.0.0.1", port), Shelf(Path(folder)), self.token)
        except OSError as error:
            raise ConfigError(f"Port {port} cannot be used ({error.strerror}). Choose another one; 0 takes a free one.") from error

    @property
    def port(self) -> int:
        """The port that it listens on (a free one was chosen if 0 was asked for)."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The address to open first; it carries the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def serve_forever(self) -> None:
        """Answer requests until `close` is called or Ctrl-C is pressed."""
        self._server.serve_forever(poll_interval=0.2)

    def start(self) -> None:
        """Answer requests from a thread that ends with the process."""
        threading.Thread(target=self.serve_forever, name="heron-dashboard", daemon=True).start()

    def close(self) -> None:
        """Stop a dashboard that was started with `start`, and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], shelf: Shelf, token: str) -> None:
        super().__init__(address, _Handler)
        self.shelf = shelf
        self.token = token


class _Handler(BaseHTTPRequestHandler):
    """One request. Only GET exists: there is nothing to change."""

    server: _Server
    server_version, sys_version = "heron", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Check who asks, then answer."""
        if not self._names_this_machine():
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", WRONG_HOST.encode())
        address = urlsplit(self.path)
        question = {key: values[-1] for key, values in parse_qs(address.query).items()}
        if "token" in question and self._is_token(question["token"]):
            return self._welcome(address.path)
        if not self._is_known():
            return self._send(HTTPStatus.FORBIDDEN, "text/plain", NO_TOKEN.encode())
        if address.path in FILES:
            name, kind = FILES[address.path]
            return self._send(HTTPStatus.OK, kind, Path(__file__).with_name(name).read_bytes())
        return self._answer(address.path, question)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to whoever started the server."""

    def _answer(self, path: str, question: Mapping[str, str]) -> None:
        """The data of a run. What is wrong with a request or a run is told to the page, which shows it."""
        try:
            status, value = HTTPStatus.OK, _data(self.server.shelf, path, question)
        except RunError as error:
            status, value = HTTPStatus.NOT_FOUND, {"error": str(error)}
        self._send(status, "application/json", to_json(value).encode())

    def _names_this_machine(self) -> bool:
        host = self.headers.get("Host", "")
        return re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", host) is not None

    def _is_known(self) -> bool:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie_name())
        except CookieError:
            return False
        given = cookie.value if cookie else self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self._is_token(given)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def _cookie_name(self) -> str:
        """Cookies are shared by all ports of a machine, so the port is part of the name."""
        return f"heron_{self.server.server_port}"

    def _welcome(self, path: str) -> None:
        """Move the token from the address, which ends up in histories, to a cookie that scripts cannot read."""
        cookie = f"{self._cookie_name()}={self.server.token}; Path=/; HttpOnly; SameSite=Lax"
        where = path if path in FILES else "/"
        self._send(HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": where, "Set-Cookie": cookie})

    def _send(self, status: HTTPStatus, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _data(shelf: Shelf, path: str, question: Mapping[str, str]) -> Any:
    for pattern, answer in _ROUTES:
        if match := re.fullmatch(pattern, path):
            return answer(shelf, question, *map(unquote, match.groups()))
    raise RunError(f"There is nothing at {path}.")


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise RunError(f"A step is a whole number, but {text!r} was asked for.")
    return int(text)


_ROUTES: tuple[tuple[str, Callable[..., Any]], ...] = (
    (r"/api/runs", lambda shelf, question: {"folder": str(shelf.folder), "runs": shelf.runs()}),
    (r"/api/runs/([^/]+)", lambda shelf, question, name: shelf.run(name, after=_number(question.get("after", "0")))),
    (r"/api/runs/([^/]+)/rollouts/([^/]+)", lambda shelf, question, name, step: shelf.rollouts(name, _number(step))),
)
