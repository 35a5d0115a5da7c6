"""News are pushed: what is new is told once, what was missed is told to whoever comes back, and silence means that nothing happened."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorded import begin, write_step

from heron.run import RunWriter


class Listening:
    """Reads a stream event by event."""

    def __init__(self, page: Any, run: str, since: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", page.dashboard.port, timeout=8)
        self._connection.request("GET", f"/api/stream?run={run}", headers={"Authorization": "Bearer secret", "Last-Event-ID": since})
        self._answer = self._connection.getresponse()
        assert self._answer.getheader("content-type", "").startswith("text/event-stream")

    def events(self) -> Iterator[tuple[str, str, Any]]:
        """Kind, id, data."""
        text = ""
        while True:
            text += self._answer.read1(1 << 16).decode()
            *whole, text = text.split("\n\n")
            for event in whole:
                parts = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line and not line.startswith(":"))
                if "data" in parts:
                    yield parts["event"], parts.get("id", ""), json.loads(parts["data"])

    def news(self) -> Iterator[tuple[str, Any]]:
        """Only those of the run: id and data."""
        return ((identity, data) for kind, identity, data in self.events() if kind == "news")


def test_what_is_new_is_pushed_with_the_points_that_are_new(page) -> None:
    """A page that is told all curves at each step is slow; one that is told none shows an old picture."""
    live = begin(page.folder / "live")
    write_step(live, 1)
    news = Listening(page, "live").news()
    first_id, first = next(news)
    assert first["curves"] is None and first["state"]["step"] == 1 and re.fullmatch(r"\d+\.1", first_id)
    write_step(live, 2)
    identity, second = next(news)
    assert identity.endswith(".2") and second["curves"]["reward"]["steps"] == [2]
    live.event("alert", id="x", step=2, title="t", evidence="e", advice="a")
    identity, third = next(news)
    assert identity.endswith(".2") and third["curves"] == {} and third["state"]["alerts"][0]["id"] == "x"
    live.close()
    assert next(news)[1]["state"]["status"] == "interrupted", "a killed writer is noticed though no file changes"


def test_whoever_comes_back_is_told_what_was_missed(page) -> None:
    """A laptop that slept would otherwise show a gap, or have to read everything anew."""
    live = begin(page.folder / "live")
    write_step(live, 1)
    identity, _ = next(Listening(page, "live").news())
    for step in (2, 3, 4):
        write_step(live, step)
    time.sleep(1)  # a run counts as fresh for a moment
    _, missed = next(Listening(page, "live", identity).news())
    assert missed["curves"]["reward"]["steps"] == [2, 3, 4]
    _, stale = next(Listening(page, "live", "1.3").news())
    assert stale["curves"] is None, "what was known of another generation does not hold"
    live.close()


def test_a_resume_is_told_as_a_new_generation(page) -> None:
    """Steps that were taken back must not stay in the picture."""
    live = begin(page.folder / "live")
    for step in (1, 2, 3):
        write_step(live, step)
    news = Listening(page, "live").news()
    before, _ = next(news)
    live.close()
    again = RunWriter.reopen(page.folder / "live", last_step=1)
    write_step(again, 2)
    identity, told = next((identity, data) for identity, data in news if data["state"]["step"] == 2)
    assert identity.split(".")[0] != before.split(".")[0] and told["curves"] is None
    again.close()


def test_runs_that_begin_appear_and_a_run_that_is_gone_is_said(page) -> None:
    """The page is left open over night, and runs come and go."""
    events = Listening(page, "nobody").events()
    seen = {kind: data for kind, _, data in (next(events), next(events))}
    assert "no run 'nobody'" in seen["gone"]["error"] and [run["name"] for run in seen["runs"]["runs"]] == ["first run"]
    begin(page.folder / "new").close()
    _, _, data = next(event for event in events if event[0] == "runs")
    assert {run["name"] for run in data["runs"]} == {"first run", "new"}


def test_a_process_that_is_killed_while_it_writes_is_read_to_its_last_step(page, tmp_path: Path) -> None:
    """The page reads files that another process is just writing; a torn line must not stop it."""
    program = Path(__file__).parents[1] / "recorded.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writing = subprocess.Popen([sys.executable, program, page.folder / "other", "0.02"], stdout=subprocess.PIPE, text=True, env=environment)
    assert writing.stdout is not None
    told = [writing.stdout.readline() for _ in range(10)]
    news = Listening(page, "other").news()
    assert next(news)[1]["state"]["status"] == "running"
    steps = [next(news)[1]["state"]["step"] for _ in range(2)]
    assert 10 <= int(told[-1]) <= steps[0] < steps[1]
    writing.send_signal(signal.SIGKILL)
    told += writing.stdout.read().split()
    with open(page.folder / "other" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 99999, "rew')
    last = next(data for _, data in news if data["state"]["status"] == "interrupted")
    assert last["state"]["step"] >= int(told[-1]) and last["state"]["step"] < 99999
