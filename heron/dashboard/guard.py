"""Who may ask, and what a browser may do with the answers.

The one hard idea: a web server on your own machine can be reached by every web page that you open. So it answers only requests that name
it by this machine's address (against DNS rebinding), that no other page has made (`Origin`, `Sec-Fetch-Site`), and that bring a random
token, which arrives once in the address and lives in a cookie from then on. Every answer forbids scripts, styles and requests of others.

Left out: other users and other machines; forward the port with ssh for that.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'", "connect-src": "'self'",
    "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
}
"""What the page may load: its own scripts and styles, and nothing inline. Plotly runs under it (see `plotly`)."""

HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

NO_TOKEN = "This page needs the token that `heron ui` printed: open the address it shows, with ?token=... at its end.\n"
WRONG_HOST = "This server answers only to 127.0.0.1 and localhost.\n"
WRONG_ORIGIN = "This server answers only to its own page.\n"


class Guard:
    """Stands before the application and lets through what may ask."""

    def __init__(self, app: ASGIApp, *, token: str, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        answer = self._refusal(request) or self._welcome(request) or self._app
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, request: Request) -> Response | None:
        if not _names_this_machine(request):
            return PlainTextResponse(WRONG_HOST, 421)
        if not _is_own_page(request):
            return PlainTextResponse(WRONG_ORIGIN, 403)
        if not (self._is_token(_asked_with(request)) or self._is_known(request)):
            return PlainTextResponse(NO_TOKEN, 403)
        return None

    def _welcome(self, request: Request) -> Response | None:
        """Move the token from the address, which ends up in histories, to a cookie that scripts cannot read."""
        if "token" not in request.query_params:
            return None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
        return answer

    def _is_known(self, request: Request) -> bool:
        cookie = _cookie(request, self._cookie)
        return self._is_token(request.headers.get("Authorization", "").removeprefix("Bearer ") if cookie is None else cookie)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _asked_with(request: Request) -> str:
    """The token of the address; it counts only where the page is opened."""
    return request.query_params.get("token", "") if request.url.path == "/" else ""


def _cookie(request: Request, wanted: str) -> str | None:
    """Its value. Pages on other ports leave their cookies here too, in any form, so nothing but the own name is understood."""
    for part in request.headers.get("Cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value.strip('"')
    return None


def _names_this_machine(request: Request) -> bool:
    return re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", request.headers.get("Host", "")) is not None


def _is_own_page(request: Request) -> bool:
    """Asked by the page itself, by hand or by a program; a link elsewhere may open the page and nothing else."""
    if request.headers.get("Origin", f"http://{request.headers['Host']}") != f"http://{request.headers['Host']}":
        return False
    from_where, opens = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Sec-Fetch-Mode") == "navigate"
    return from_where in ("none", "same-origin") or (opens and request.url.path == "/" and request.method == "GET")


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
