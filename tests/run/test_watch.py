"""Following a run from its record: what is told, in which order, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heron.run import Run, RunWriter, TerminalView
from heron.run.index import lines
from heron.run.watch import follow

Told = list[tuple[str, Any]]


def begin(folder: Path) -> RunWriter:
    writer = RunWriter.create(folder, config_toml="", manifest={})
    writer.event("start", max_steps=9)
    return writer


def followed(run: Run, chapters: Iterator[None]) -> Told:
    """What is heard while the chapters happen, one between two looks."""
    told: Told = []

    def hear(kind: str, payload: Mapping[str, Any]) -> None:
        told.append((kind, payload.get("step", payload.get("last_step"))))

    follow(run, hear, sleep=lambda _: next(chapters))
    return told


def test_everything_is_told_once_and_in_order(tmp_path: Path) -> None:
    """Prevents: steps told twice or left out, and an evaluation told before its step."""
    writer = begin(tmp_path / "run")

    def chapters() -> Iterator[None]:
        for step in (1, 2):
            writer.log(step, {"reward": 1.0})
        yield
        writer.log(3, {"reward": 1.0})
        writer.event("checkpoint", step=3)
        with open(writer.path / "metrics.jsonl", "ab") as file:
            file.write(b'{"step": 4, "rew')
        yield
        with open(writer.path / "metrics.jsonl", "ab") as file:
            file.write(b'ard": 1.0}\n')
        writer.finish("finished", {})
        yield

    told = followed(Run(writer.path), chapters())
    assert told == [("start", None), ("metrics", 1), ("metrics", 2), ("metrics", 3), ("checkpoint", 3), ("metrics", 4), ("end", None)]


def test_steps_that_a_resume_takes_back_are_told_anew(tmp_path: Path) -> None:
    """Prevents: a screen that stands still until a resumed run has overtaken itself."""
    writer = begin(tmp_path / "run")

    def chapters() -> Iterator[None]:
        for step in (1, 2, 3, 4):
            writer.log(step, {"reward": 1.0})
        yield
        writer.close()
        again = RunWriter.reopen(writer.path, last_step=2)
        again.log(3, {"reward": 2.0})
        yield
        again.log(4, {"reward": 2.0})
        again.finish("finished", {})
        yield

    told = followed(Run(writer.path), chapters())
    steps = [step for kind, step in told if kind == "metrics"]
    assert steps == [1, 2, 3, 4, 3, 4] and ("resume", 2) in told
    view = TerminalView(Console(force_terminal=False, quiet=True))
    for number, step in enumerate(steps):
        view("metrics", {"step": step, "reward": number})
    assert [record["step"] for record in view.view.metrics] == [1, 2, 3, 4] and view.view.metrics[-1]["reward"] == 5


def test_a_long_record_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a viewer that reads hundreds of megabytes every second."""
    writer = begin(tmp_path / "run")
    read: list[int] = []
    really: Callable[..., list[bytes]] = lines.read_on
    monkeypatch.setattr(lines, "read_on", lambda *given: read.append(sum(map(len, found := really(*given)))) or found)

    def chapters() -> Iterator[None]:
        for step in range(1, 200):
            writer.log(step, {"reward": 1.0})
        yield
        writer.log(200, {"reward": 1.0})
        writer.finish("finished", {})
        yield

    followed(Run(writer.path), chapters())
    assert sum(read) == (writer.path / "metrics.jsonl").stat().st_size


def test_time_counts_from_when_the_run_began(tmp_path: Path) -> None:
    """Prevents: a run of an hour that is said to have begun when somebody looked."""
    run = Run(begin(tmp_path / "run").path)
    (event,) = run.events("start")
    view = TerminalView(Console(force_terminal=False, quiet=True), clock=lambda: 5000.0)
    view("start", {**event, "time": event["time"] - 3600})
    assert view.view.began == pytest.approx(1400, abs=60)
