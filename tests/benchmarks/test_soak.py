"""The soak: a leak is found above the noise, and noise is no leak."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from benchmarks import soak
from benchmarks.soak import Seen
from heron.config import Config


def seen(*, leak: float = 0.0, steps: int = 400) -> Seen:
    """A run whose memory jumps by up to 2 MiB from step to step, and climbs while it warms up."""
    draw = random.Random(0)
    memory = [5e5 + min(step, steps // 2) * 50 + draw.choice([0, 512, 2048]) + leak * step for step in range(steps)]
    return Seen(memory=memory, objects=[1000] * steps, files=[8] * steps, threads=[5] * steps, processes=[0] * steps)


def test_a_leak_is_found_and_noise_is_none() -> None:
    """Prevents: a run that takes all of the memory in its tenth hour, and a bar that a busy allocator misses."""
    assert soak.bar(seen()).met
    leaky = soak.bar(seen(leak=20.0))
    assert not leaky.met and leaky.exit_code == 1 and abs(soak.slope(seen(leak=20.0).memory).estimate - 20) < 5


def test_a_file_that_stays_open_misses_the_bar() -> None:
    """Prevents: "too many open files" after a thousand steps; and a checkpoint's thread that is writing just then as a leak."""
    busy, grown = seen(), seen()
    busy.threads[:] = [5 + step % 2 for step in range(400)]
    grown.files[:] = [8 + step // 100 for step in range(400)]
    assert soak.bar(busy).met
    assert not soak.bar(grown).met and "open files changed" in soak.bar(grown).line()


def test_the_run_that_is_watched(tmp_path: Path) -> None:
    """Prevents: figures of another process, or of no step at all."""
    found = soak.measure(small(soak.config(steps=40, quick=True)), tmp_path / "run")
    assert len(found.memory) == 40 and min(found.memory) > 50_000 and min(found.files) > 2 and min(found.threads) >= 1
    assert "40 steps" in soak.table(found).text() and list((tmp_path / "run" / "checkpoints").glob("step-*"))


def small(config: Config) -> Config:
    """Of a second."""
    short = replace(config.rollout, max_completion_length=4)
    return replace(config, rollout=short, evaluation=replace(config.evaluation, size=2))
