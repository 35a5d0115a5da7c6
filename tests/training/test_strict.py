"""Alerts of a real run: they are recorded as it goes on, and stop it where that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import flat, make_trainer, small_config, some_flat

from heron.errors import AlertStop
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble


def settings(folder: Path, **train: Any) -> Any:
    return small_config(folder, train={"max_steps": 9, **train})


def test_an_alert_stops_the_run_which_is_saved(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a night of training on a reward that is the same for all answers."""
    trainer = make_trainer(settings(tiny_folder("qwen3"), strict=["constant-reward"]), tmp_path / "run", rewards=[flat])
    with pytest.raises(AlertStop, match="constant-reward") as stopped:
        trainer.train()
    run = Run(tmp_path / "run")
    assert stopped.value.exit_code == 4 and run.status == "failed" and "constant-reward" in (run.error or "")
    assert len(run.metrics()) == 5 and (run.path / "checkpoints" / "step-000005").is_dir()
    assert [event["step"] for event in run.events("alert") if event["id"] == "constant-reward"] == [5]


def test_a_stopped_run_can_go_on(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a run that stops again at once, at the alert that its user has read and resumed it after."""
    trainer = make_trainer(settings(tiny_folder("qwen3"), strict=["constant-reward"]), tmp_path / "run", rewards=[flat])
    with pytest.raises(AlertStop):
        trainer.train()
    reassemble(tmp_path / "run", rewards=resolve([flat])).train()
    assert len(Run(tmp_path / "run").metrics()) == 9


def test_without_strict_it_is_only_said(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    make_trainer(settings(tiny_folder("qwen3")), tmp_path / "run", rewards=[flat]).train()
    run = Run(tmp_path / "run")
    assert run.status == "finished" and "constant-reward" in [event["id"] for event in run.events("alert")]


def test_checkpoints_say_what_they_take(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a disk that is found to be full in the middle of the night."""
    make_trainer(small_config(tiny_folder("qwen3")), tmp_path / "run", rewards=[some_flat]).train()
    event = Run(tmp_path / "run").events("checkpoint")[-1]
    files = [file.stat().st_size for file in (tmp_path / "run" / "checkpoints" / event["path"]).rglob("*") if file.is_file()]
    assert event["bytes"] == sum(files) > 0 and event["free_bytes"] > 0
