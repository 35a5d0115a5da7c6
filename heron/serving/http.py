"""Bodies in, answers out: what HTTP does to a request, and what a client does that goes away, or is slow.

The one hard idea: a client's going away is heard while its answer is in the making, so that nothing is sampled for nobody. Bodies are read
up to a limit and for a limited time; an event that a client does not take in time ends its connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from heron.serving.fields import Refusal

T = TypeVar("T")

MAX_BODY = 4 * 2**20
"""Largest request body in bytes."""
BODY_S = 60.0
"""Seconds for a body to arrive."""
SEND_S = 60.0
"""Seconds for a client to take an event."""


class Gone(Exception):
    """The client went away."""


async def read_json(request: Request) -> Any:
    """The decoded body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(f"The body must be sent as application/json, not as {kind!r}.", status=415, code="unsupported_media_type")
    try:
        async with asyncio.timeout(BODY_S):
            content = await _body(request)
    except TimeoutError as error:
        raise Refusal(f"The body did not arrive within {BODY_S:.0f} seconds.", status=408, code="timeout") from error
    except ClientDisconnect as error:
        raise Gone from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"The body is not valid JSON: {error}.", code="invalid_json") from error


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result; `Gone` as soon as the client is."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def refused(refusal: Refusal) -> Response:
    """The answer to a request that is not carried out."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    closing = {"Connection": "close"} if refusal.status in (408, 413) else {}  # the rest of the body is not read
    return JSONResponse(refusal.body(), refusal.status, headers | closing)


class EventStream(Response):
    """Sends events as they come, until there are no more or the client is gone; then it calls `on_close`, whatever happened."""

    def __init__(self, events: AsyncIterator[str], *, on_close: Callable[[], None]) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events = events
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        sending, leaving = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            self._on_close()  # not left to the iterator, which may never have begun
            await asyncio.wait({sending})  # its iterator is closed before we go on

    async def _send(self, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self._events:
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, OSError):
            return  # it does not listen any more; the server closes what was not completed
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]


async def _body(request: Request) -> bytes:
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > MAX_BODY:
        raise _too_large(told)
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise _too_large("more")
    return bytes(content)


def _too_large(size: str) -> Refusal:
    return Refusal(f"The body has {size} bytes; at most {MAX_BODY} are read.", status=413, code="body_too_large")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
