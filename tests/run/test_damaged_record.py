"""Records that a full disk, a copy in part, or a hand has damaged: what is left of them is read, and what is missing is said."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from heron.run import Run, RunWriter


def make(path: Path, steps: int = 3) -> RunWriter:
    writer = RunWriter.create(path, config_toml='recipe = "arithmetic"\n', manifest={"model": "embedded"})
    for step in range(1, steps + 1):
        writer.rollouts(step, [])
        writer.log(step, {"reward": float(step)})
    return writer


def full_after(taken: int) -> Callable[[int, bytes], int]:
    """A disk that takes so many more bytes of one line, and then none."""
    left = [taken]
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part, left[0] = data[: left[0]], 0
        return real(descriptor, part)

    return write


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_line_that_a_full_disk_took_half_of_is_taken_back(tmp_path: Path, taken: int) -> None:
    """Prevents: the next line glued to the torn half, which made the record unreadable and the run one that cannot be resumed."""
    writer = make(tmp_path / "run")
    with mock.patch("heron.run.records.os.write", full_after(taken)), pytest.raises(OSError, match="No space"):
        writer.event("checkpoint", step=3, path="step-000003", bytes=1, free_bytes=1)
    writer.event("message", text="Stopped in step 4.")
    with mock.patch("heron.run.records.os.write", full_after(taken)), pytest.raises(OSError, match="No space"):
        writer.log(4, {"reward": 4.0})
    writer.finish("failed", {"error": "OSError"})
    run = Run(tmp_path / "run")
    assert [event["kind"] for event in run.events()] == ["message", "end"] and run.torn() == ()
    again = RunWriter.reopen(tmp_path / "run", last_step=3)
    again.log(4, {"reward": 5.0})
    assert [record["reward"] for record in run.metrics()] == [1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("name", ["step-000001 (conflicted copy).jsonl", "step-x.jsonl", "step-1.jsonl", "step-٣٣٣٣٣٣.jsonl"])
def test_a_file_that_is_no_step_s_is_left_alone(tmp_path: Path, name: str) -> None:
    """Prevents: a run that cannot be resumed, since a program that keeps folders alike put a copy beside its rollouts."""
    make(tmp_path / "run").close()
    (tmp_path / "run" / "rollouts" / name).write_text('{"step": 1}\n')
    assert Run(tmp_path / "run").rollout_steps() == (1, 2, 3)
    RunWriter.reopen(tmp_path / "run", last_step=1).close()
    assert Run(tmp_path / "run").rollout_steps() == (1,) and (tmp_path / "run" / "rollouts" / name).exists()
