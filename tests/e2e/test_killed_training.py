"""A training that is killed twenty times, at any moment: what it reported is in the record, and every viewer opens it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heron.dashboard.server import Dashboard
from heron.run import Run
from heron.run.flaws import TORN, flaws
from heron.run.index import Index
from tests.dashboard.conftest import Asking

KILLS = 20
TESTS = Path(__file__).resolve().parents[1]
PROMPTS, HELD_OUT = 4, 8
HALF = b'{"step": 1000000, "rew'
"""Half a line, as a write that was cut short would leave it."""


@dataclass
class Lives:
    """The lives of one training."""

    process: subprocess.Popen[bytes]

    def kill_after(self, seconds: float, *, first: str = "") -> list[str]:
        """Begin a life, wait until it has reported what begins so (nothing by default), and end it so many seconds later; what it said."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"live\n")
        self.process.stdin.flush()
        pid, told = int(self.line().removeprefix("life ")), [""]
        while not told[-1].startswith(first):
            told.append(self.line())
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        while not (line := self.line()).startswith("ended "):
            told.append(line)
        assert line == f"ended {-signal.SIGKILL}", "it died of something else"
        return told[1:]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@pytest.fixture
def lives(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Iterator[Lives]:
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    with subprocess.Popen(
        [sys.executable, str(TESTS / "e2e" / "killable.py"), str(tiny_folder("qwen3")), str(tmp_path / "runs" / "run"),
         str(tmp_path / "scratch")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths},
    ) as process:  # fmt: skip
        yield Lives(process)


@pytest.fixture
def page(lives: Lives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    """The dashboard that is open all the while."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Dashboard(tmp_path / "runs", token="secret")
    made.start()
    yield Asking(made, tmp_path / "runs")
    made.close()


@pytest.mark.slow
def test_what_was_reported_is_recorded_whenever_it_is_killed(lives: Lives, page: Asking, tmp_path: Path) -> None:
    """Prevents: steps and measurements that were shown and lost; a record, an index or a page that a kill closes, or that shows steps of
    before a kill beside those that were trained in their place; a run that cannot be resumed."""
    source, path = random.Random(0), tmp_path / "runs" / "run"
    reported = lives.kill_after(0.2, first="step")
    for kill in range(KILLS):  # by turns at any moment, the way to the first step among them, and at one of training
        told = lives.kill_after(source.uniform(0.0, 1.2)) if kill % 2 else lives.kill_after(source.uniform(0.0, 0.8), first="step")
        if kill % 4 == 0:
            with open(path / "metrics.jsonl", "ab") as file:
                file.write(HALF)
        recorded(Run(path), told)
        opened(Run(path), page, tmp_path / f"index-{kill}")
        reported += told
    assert {"step 5", "evaluation before", "evaluation step-000004"} <= {*reported}, "it went on between the kills"


def recorded(run: Run, told: list[str]) -> None:
    """Every step and every measurement that was reported, once and in order; nothing is spoilt but a torn last line, which is counted."""
    torn = not (run.path / "metrics.jsonl").read_bytes().endswith(b"\n")
    steps = [record["step"] for record in run.metrics()]
    assert run.status == "interrupted" and steps == list(range(1, len(steps) + 1))
    for kind, _, name in (line.partition(" ") for line in told):
        if kind == "step":
            assert int(name) in steps and len(run.rollouts(int(name))) == 4 * PROMPTS
        else:
            assert len(run.evaluation(name).rows) == HELD_OUT
    assert set(flaws(run)) == ({f"metrics.jsonl: {TORN}"} if torn else set())


def opened(run: Run, page: Asking, cache: Path) -> None:
    """A new index, and the page, whose index has seen all that was taken back, show what the record has."""
    index = Index(run, cache)
    index.refresh()
    steps = [record["step"] for record in run.metrics()]
    assert index.curves(["reward"], points=10**6)["reward"].steps == steps and index.torn == len(flaws(run))
    assert page.raw("/")[0] == 200 and [each["status"] for each in page.get("/api/runs")["runs"]] == ["interrupted"]
    state = page.get("/api/runs/run")
    assert state["step"] == steps[-1] and len(state["evaluations"]) == len(run.evaluations())
    total = PROMPTS * len(run.rollout_steps())
    assert index.groups().total == total and within(10, lambda: page.get("/api/runs/run/groups")["total"] == total)
    last = run.rollouts(steps[-1])
    shown = page.get(f"/api/runs/run/groups/{steps[-1]}/2")["siblings"]
    assert sorted(map(json.dumps, shown)) == sorted(json.dumps(row) for row in last if row["group"] == 2)
    index.close()


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Whether it becomes true."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
