"""What is answered at which address: the page's own files, and a run's data as JSON.

The one hard idea: an answer is a plain value made by a function that knows no HTTP; here it only gets its arguments out of the address and
becomes JSON. What is wrong with a request or a run is told to the page, which shows it. Only GET exists: there is nothing to change.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from heron.dashboard import plotly, stream, views
from heron.dashboard.compare import compare
from heron.dashboard.explain import explain
from heron.dashboard.shelf import OpenRun, Shelf
from heron.errors import HeronError, RunError
from heron.run.records import to_json

STATIC = Path(__file__).with_name("static")
MOST_RUNS = 6
"""Runs that are compared at once."""
MOST_POINTS = 2000
REVALIDATED = {"Cache-Control": "no-cache"}
"""A browser may keep it, and asks whether it is still the same."""

Answer = Callable[[Shelf, Request], Any]


def make_app(shelf: Shelf, closing: threading.Event) -> Starlette:
    """The application; `closing` ends the streams."""
    page = _page()

    def data(answer: Answer) -> Callable[[Request], Response]:
        return lambda request: _json(answer(shelf, request))

    def follow(request: Request) -> Response:
        since = request.headers.get("Last-Event-ID", "")
        events = stream.follow(shelf, request.query_params.get("run"), since, closing)
        return StreamingResponse(events, media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/", lambda request: HTMLResponse(page, headers=REVALIDATED), methods=["GET"]),
            Route("/plotly.min.js", lambda request: FileResponse(plotly.bundle(), headers=REVALIDATED), methods=["GET"]),
            Route("/api/stream", follow, methods=["GET"]),
            *(Route(path, data(answer), methods=["GET"]) for path, answer in _ANSWERS.items()),
            Mount("/static", _Files(directory=STATIC)),
        ],
        exception_handlers={HeronError: _not_found, 404: _not_found, Exception: _failed},
    )


class _Files(StaticFiles):
    """The page's own files."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def _page() -> str:
    """The page, with the elements that keep plotly from adding style sheets."""
    marks = "".join(f'<meta id="{identity}">' for identity in plotly.sheet_ids())
    return (STATIC / "page.html").read_text(encoding="utf-8").replace("<!-- plotly -->", marks)


def _runs(shelf: Shelf, request: Request) -> Any:
    return {"folder": str(shelf.folder), "runs": [views.card(name, run) for name, run in shelf.runs()]}


def _state(shelf: Shelf, request: Request) -> Any:
    return views.state(_run(shelf, request))


def _curves(shelf: Shelf, request: Request) -> Any:
    opened, names = _run(shelf, request), request.query_params.getlist("name")
    known = set(opened.index.names())
    after, points = _number(request, "after", 0), _number(request, "points", 600)
    found = opened.index.curves([name for name in names if name in known], after=after, points=max(8, min(points, MOST_POINTS)))
    return {
        "generation": opened.index.generation,
        "step": opened.index.last_step(),
        "curves": {name: views.curve(one) for name, one in found.items()},
    }


def _groups(shelf: Shelf, request: Request) -> Any:
    opened, asked = _run(shelf, request), request.query_params
    page = opened.index.groups(
        step=_number(request, "step", None), filter=asked.get("filter", "all"), search=asked.get("search", "")[:500],
        prompt=asked.get("prompt"), order=asked.get("order", "step"), limit=max(1, min(_number(request, "limit", 20), 200)),
        offset=_number(request, "offset", 0),
    )
    return {"total": page.total, "groups": [dataclasses.asdict(group) for group in page.groups]}


def _group(shelf: Shelf, request: Request) -> Any:
    step, number = (_whole(request.path_params[name], name) for name in ("step", "number"))
    rows = _run(shelf, request).index.group(step, number)
    return {"step": step, "group": number, "siblings": sorted(rows, key=lambda row: (-(row.get("advantage") or 0.0), row["sibling"]))}


def _lengths(shelf: Shelf, request: Request) -> Any:
    opened = _run(shelf, request)
    first, last = _number(request, "from", 1), _number(request, "to", opened.index.last_step())
    return dataclasses.asdict(opened.index.lengths(first, last, bins=max(1, min(_number(request, "bins", 30), 200))))


def _compare(shelf: Shelf, request: Request) -> Any:
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if not names:
        raise RunError("Name the runs to compare, as ?run=first&run=second.")
    return compare([shelf.open(name) for name in names[:MOST_RUNS]], shelf.defaults())


def _explain(shelf: Shelf, request: Request) -> Any:
    index = _run(shelf, request).index
    newest = index.latest(1)
    return explain(index.names(), newest[-1] if newest else {})


_ANSWERS: dict[str, Answer] = {
    "/api/runs": _runs,
    "/api/compare": _compare,
    "/api/runs/{run}": _state,
    "/api/runs/{run}/curves": _curves,
    "/api/runs/{run}/groups": _groups,
    "/api/runs/{run}/groups/{step}/{number}": _group,
    "/api/runs/{run}/lengths": _lengths,
    "/api/runs/{run}/explain": _explain,
}


def _run(shelf: Shelf, request: Request) -> OpenRun:
    return shelf.open(request.path_params["run"])


def _number(request: Request, name: str, default: Any) -> Any:
    """A whole number from the question; the default where it is not asked for."""
    given = request.query_params.get(name)
    return default if given is None else _whole(given, name)


def _whole(given: str, name: str) -> int:
    if not re.fullmatch(r"\d{1,9}", given, re.ASCII):
        raise RunError(f"{name} is a whole number, but {given!r} was asked for.")
    return int(given)


def _json(value: Any, status: int = 200) -> Response:
    return Response(_encoded(value), status, media_type="application/json")


def _encoded(value: Any) -> bytes:
    """A number that is not finite becomes null. The quick way knows neither halves of characters nor very large numbers."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return to_json(value).encode("ascii")


def _not_found(request: Request, error: Exception) -> Response:
    words = str(error) if isinstance(error, HeronError) else f"There is nothing at {request.url.path}."
    return _json({"error": words}, 404)


def _failed(request: Request, error: Exception) -> Response:
    return _json({"error": f"This cannot be answered: {error!r}"}, 500)
