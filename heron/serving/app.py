"""The routes: `/v1/chat/completions`, `/v1/completions`, `/v1/models` and `/health`, and who may call them.

The one hard idea: a model on the loopback address is still within reach of every web page that the user has open. Without a token the
server therefore answers only requests that name a loopback host (a page cannot fake that) and come from no page of elsewhere, and takes
only `application/json` (a page may not send that across origins without asking, and is not answered). With a token, every call to `/v1/`
must bring it. Left out: TLS, and limits per client; put a reverse proxy in front for those.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heron.engine import Request as Asked
from heron.errors import ConfigError, EngineError, HeronError, MissingExtra
from heron.serving.address import is_loopback
from heron.serving.answers import Chat, Reply, Text, event
from heron.serving.batching import Batcher, Ticket
from heron.serving.fields import Refusal, failure
from heron.serving.http import EventStream, Gone, read_json, refused, unless_gone
from heron.serving.model import ServedModel
from heron.serving.requests import parse_chat, parse_text

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
PATHS = "/v1/chat/completions, /v1/completions, /v1/models and /health"


class Routes:
    """Answers for one model."""

    def __init__(self, model: ServedModel, batcher: Batcher, token: str | None) -> None:
        self.model = model
        self.batcher = batcher
        self._token = token
        self._tokenizing = ThreadPoolExecutor(1, "heron-tokenizing")  # a long prompt holds up no stream

    def app(self) -> Starlette:
        """For an ASGI server."""
        posts = {"/v1/chat/completions": self.chat, "/v1/completions": self.text}
        gets = {"/v1/models": self.models, "/v1/models/{name:path}": self.one_model, "/health": self.health}
        routes = [
            *(Route(path, self._guarded(answer), methods=["POST"]) for path, answer in posts.items()),
            *(Route(path, self._guarded(answer), methods=["GET"]) for path, answer in gets.items()),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._no_route})

    async def chat(self, request: Request) -> Response:
        """`/v1/chat/completions`."""
        asked = parse_chat(await read_json(request), model=self.model.name)
        question = await self._off_loop(lambda: self.model.question(asked))
        return await self._answered(request, Chat(self.model, asked, question))

    async def text(self, request: Request) -> Response:
        """`/v1/completions`."""
        asked = parse_text(await read_json(request), model=self.model.name)
        questions = await self._off_loop(lambda: self.model.beginnings(asked))
        return await self._answered(request, Text(self.model, asked, questions))

    async def models(self, request: Request) -> Response:
        """`/v1/models`."""
        return JSONResponse({"object": "list", "data": [self._entry()]})

    async def one_model(self, request: Request) -> Response:
        """`/v1/models/NAME`."""
        if (name := request.path_params["name"]) != self.model.name:
            raise Refusal(f"There is no model {name!r} here; this server has {self.model.name!r}.", status=404, code="model_not_found")
        return JSONResponse(self._entry())

    async def health(self, request: Request) -> Response:
        """`/health`: whether it answers, and how busy it is."""
        is_well, busy = self.batcher.is_well, {"in_flight": self.batcher.taken, "places": self.batcher.places}
        return JSONResponse({"status": "ok" if is_well else "failing", "model": self.model.name, **busy}, 200 if is_well else 503)

    def _entry(self) -> dict[str, object]:
        return {"id": self.model.name, "object": "model", "created": 0, "owned_by": "heron"}

    # One request

    async def _answered(self, request: Request, reply: Reply) -> Response:
        wanted = reply.wanted
        seeds = tuple(range(wanted.seed, wanted.seed + wanted.n))
        params = replace(wanted.params, max_tokens=self.model.longest(wanted, reply.questions))
        asked = [Asked(prompt_ids=question.prompt_ids, seeds=seeds) for question in reply.questions]
        ticket = Ticket(asked, params, is_stream=wanted.is_stream, loop=asyncio.get_running_loop())
        self.batcher.submit(ticket)
        try:
            await unless_gone(request, ticket.news())  # a stream: taken in; else: it has ended
        except BaseException:
            self.batcher.leave(ticket)
            raise
        if wanted.is_stream:
            return EventStream(self._events(ticket, reply), on_close=lambda: self.batcher.leave(ticket))
        return JSONResponse(reply.whole(ticket.sequences))

    async def _events(self, ticket: Ticket, reply: Reply) -> AsyncIterator[str]:
        try:
            for said in reply.opening():
                yield said
            while True:
                if said := "".join(reply.news(ticket.sequences)):  # first: what is over already brings no more news
                    yield said
                if all(speech.has_ended for speech in reply.speeches):
                    break
                await ticket.news()
            yield "".join(reply.ending(ticket.sequences))
        except HeronError as error:
            yield event(_refusal(error).body())
        except Exception as error:  # boundary: of one stream, which has begun and can only be told
            yield event(failure(error).body())

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    # Who asks, and what goes wrong

    def _guarded(self, answer: Endpoint) -> Endpoint:
        """The boundary of a request: whatever goes wrong in it is answered as JSON, and the server goes on."""

        async def guarded(request: Request) -> Response:
            try:
                self._check_sender(request)
                return await answer(request)
            except Gone:
                return Response(status_code=499)  # nobody reads it
            except HeronError as error:
                return refused(_refusal(error))
            except Exception as error:  # boundary: of one request
                return refused(failure(error))

        return guarded

    async def _no_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "registered for these alone"
        with contextlib.suppress(Refusal):
            self._check_sender(request)
            path = request.url.path
            is_there = error.status_code == 405
            said = f"{path} does not answer {request.method}." if is_there else f"There is nothing at {path}; there are {PATHS}."
            return refused(Refusal(said, status=error.status_code, code="not_found"))
        return refused(Refusal("This server does not answer you.", status=403, code="forbidden"))

    def _check_sender(self, request: Request) -> None:
        if self._token is None:
            host, origin = request.headers.get("host", ""), request.headers.get("origin")
            if not is_loopback(_name(host)):
                raise Refusal(f"This server answers to localhost, not to {host!r:.80}.", status=403, code="forbidden")
            if origin is not None and not is_loopback(_name(origin)):
                raise Refusal(f"This server answers no web page of {origin!r:.80}.", status=403, code="forbidden")
        elif request.url.path != "/health":
            given = request.headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                raise Refusal("The token is missing or wrong. Send it as `Authorization: Bearer TOKEN`.", status=401,
                              code="invalid_api_key")


def _name(place: str) -> str:
    """The name of a machine in a Host or Origin header."""
    host = re.split("//|@", place)[-1]
    return host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]


def _refusal(error: HeronError) -> Refusal:
    """As HTTP has it."""
    match error:
        case Refusal():
            return error
        case EngineError():
            is_long = "context" in str(error)
            return Refusal(str(error), code="context_length_exceeded" if is_long else "invalid_value")
        case MissingExtra():
            return Refusal(str(error), code="missing_extra")
        case ConfigError():
            return Refusal(str(error))
        case _:
            return failure(error)
