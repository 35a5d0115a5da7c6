"""`heron ui` as its user starts it: a process of its own, asked over HTTP as a browser asks it.

The one hard idea: what one waits for is not a function but a program: Python has to start, packages have to be imported, JSON has to be
written and sent. So the clock starts before the process does, and its memory is read from the operating system.

Left out: the browser itself.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from heron.run.index import FILTERS

ROUNDS = 5
SCREEN = (
    "reward", "reward_std", "groups/all_right", "groups/mixed", "groups/all_wrong", "rewards/right/mean", "rewards/format/mean",
    "completions/mean_length", "entropy", "kl", "grad_norm", "loss",
)  # fmt: skip
"""Figures that one screen shows: no screen has more."""
WORDS = ("what", "wait carry", "SOLUTION", "sol*", "150", "nobody")
"""In every group, in most, in a few, in none."""
COMMAND = (sys.executable, "-c", "from heron.cli.main import main; main()", "ui", "--port", "0")
LOOK_EVERY_S = 0.5
"""Seconds between two looks while the index is made."""
PATIENCE_S = 60

Timings = dict[str, list[float]]
"""Milliseconds of each round, by what was done."""


class Server:
    """A running `heron ui`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        address = urlsplit(url)
        self._token = parse_qs(address.query)["token"][0]
        self._connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=PATIENCE_S)

    def raw(self, path: str) -> bytes:
        """What is answered, over one connection, as a browser keeps it open."""
        answer = self._ask(path)
        body = answer.read()
        assert answer.status == 200, body
        return body

    def get(self, path: str, **asked: Any) -> Any:
        """Data."""
        return json.loads(self.raw(f"/api/{path}?{urlencode(asked, doseq=True)}" if asked else f"/api/{path}"))

    def first_news(self, run: str) -> str:
        """The first event that an open page is sent of its run."""
        answer, text = self._ask(f"/api/stream?run={run}"), ""
        while "event: news" not in text or not text.endswith("\n\n"):
            text += answer.read1(1 << 16).decode()
        self._connection.close()
        return text

    def peak_mb(self) -> float:
        """The most memory that it had resident so far."""
        return peak_mb(self._process.pid)

    def _ask(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
        return self._connection.getresponse()


@contextmanager
def served(folder: Path, cache: Path) -> Iterator[Server]:
    """A server over the runs of the folder, from the moment in which its address is printed."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).parents[1]
    process = subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
    try:
        assert process.stdout is not None
        yield Server(process, process.stdout.readline().removeprefix("Open ").strip())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)


def opened(server: Server, run: str) -> None:
    """What a browser fetches until the first screen stands."""
    for path in ("/", "/static/app.js", "/plotly.min.js"):
        server.raw(path)
    assert run in [card["name"] for card in server.get("runs")["runs"]]
    state = server.get(f"runs/{run}")
    curves = server.get(f"runs/{run}/curves", name=SCREEN)["curves"]
    assert len(curves) == len(SCREEN) and all(curve["steps"][-1] == state["step"] for curve in curves.values())


def indexed(server: Server, run: str) -> Timings:
    """Look at the run until all of it is indexed, as an open page does; how long that took, and each look."""
    began, looks = time.perf_counter(), []
    for number in count():
        looks.append(timed(lambda: server.get(f"runs/{run}")))
        looks.append(timed(lambda: server.get(f"runs/{run}/groups")))
        if number and server.get(f"runs/{run}")["reading"] is None:
            return {"all indexed": [(time.perf_counter() - began) * 1000], "looks": looks}
        time.sleep(LOOK_EVERY_S)
    raise AssertionError


def asked(server: Server, run: str) -> Timings:
    """Every kind of question that a page asks."""
    return {what: [timed(ask) for _ in range(ROUNDS)] for what, ask in questions(server, run).items()}


def questions(server: Server, run: str) -> Mapping[str, Callable[[], Any]]:
    """By kind and detail, as `kind: detail`."""
    about = f"runs/{run}"
    newest, last = server.get(f"{about}/groups", limit=1)["groups"][0], server.get(about)["step"]
    found: dict[str, Callable[[], Any]] = {
        "screen: the list of runs": lambda: server.get("runs"),
        "screen: the state": lambda: server.get(about),
        "screen: the comparison": lambda: server.get("compare", run=[run]),
        "screen: the definitions": lambda: server.get(f"{about}/explain"),
        "screen: the first news of a stream": lambda: server.first_news(run),
        "curves: 12 figures over all steps": lambda: server.get(f"{about}/curves", name=SCREEN),
        "curves: what is new": lambda: server.get(f"{about}/curves", name=SCREEN, after=last - 1),
        "prompt: over time": lambda: server.get(f"{about}/groups", prompt=newest["prompt"], order="oldest"),
        "prompt: over time, wrong": lambda: server.get(f"{about}/groups", prompt=newest["prompt"], filter="wrong"),
        "prompt: over time, searched": lambda: server.get(f"{about}/groups", prompt=newest["prompt"], search="what"),
        "group: with its texts": lambda: server.get(f"{about}/groups/{last // 2}/1"),
        "lengths: of all steps": lambda: server.get(f"{about}/lengths", **{"from": 1, "to": last}),
        "lengths: of the newest steps": lambda: server.get(f"{about}/lengths", **{"from": max(1, last - 100), "to": last}),
    }
    for name in FILTERS:
        found |= {f"filter: {name}, {page}": ask for page, ask in pages(server, about, filter=name).items()}
        for words in WORDS:
            found |= {f"search: {words}, {name}, {page}": ask for page, ask in pages(server, about, filter=name, search=words).items()}
    return found


def pages(server: Server, about: str, **query: str) -> dict[str, Callable[[], Any]]:
    """The first, the middle and the last one."""
    total = server.get(f"{about}/groups", **query, limit=1)["total"]
    offsets = {"first page": 0, "middle page": total // 2, "last page": max(0, total - 20)}
    return {page: partial(server.get, f"{about}/groups", **query, offset=offset) for page, offset in offsets.items()}


def timed(ask: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def peak_mb(process: int) -> float:
    """The most memory that a process ever had resident, from /proc."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
