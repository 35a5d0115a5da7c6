"""The wall clock is put hours forward and back while a run is trained: nothing but what is displayed depends on it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import cut_after, make_trainer, outcome, small_config, some_flat

from heron.rewards import resolve
from heron.run import Run
from heron.run.watch import follow
from heron.training.assemble import reassemble

HOURS = 3600.0
JUMPS = (5 * HOURS, -7 * HOURS, 0.0, 100_000 * HOURS, -3 * HOURS)


def test_a_clock_that_jumps_changes_nothing(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: times below zero, waits of hours, checkpoints or records ordered by the time of day, other weights."""
    config = small_config(
        tiny_folder("qwen3"), train={"max_steps": 4, "save_steps": 1}, evaluation={"size": 2, "steps": 2, "samples": 1},
        rollout={"num_generations": 4, "max_completion_length": 6, "temperature": 0.8},
    )
    make_trainer(config, tmp_path / "whole").train()
    right, jumps, asked = time.time, itertools.cycle(JUMPS), []

    def jumping() -> float:
        asked.append(next(jumps))
        return right() + asked[-1]

    monkeypatch.setattr(time, "time", jumping)
    cut_after(make_trainer(config, tmp_path / "run"), 3)
    began = time.monotonic()
    reassemble(tmp_path / "run", rewards=resolve([some_flat])).train()
    run = Run(tmp_path / "run")
    assert len(asked) > 10, "the clock was asked"
    assert outcome(run) == outcome(Run(tmp_path / "whole"))
    times = {name: value for record in run.metrics() for name, value in record.items() if name.startswith("time/")}
    assert all(0 <= value < 60 for value in times.values()) and 0 < (run.summary or {})["training_seconds"] < 60
    assert all(0 <= event["seconds"] < 60 for event in run.events("checkpoint"))
    assert time.monotonic() - began < 60
    heard: list[int] = []
    follow(run, lambda kind, payload: heard.append(payload["step"]) if kind == "metrics" else None)
    assert heard == [1, 2, 3, 4]
