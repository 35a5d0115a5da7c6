"""Alerts as they happen: each once, in the record, and on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from test_alerts import healthy

from heron.errors import ConfigError
from heron.run import Run, RunWriter, TerminalView, Watchman
from heron.run.alerts.course import PIECES
from heron.run.alerts.history import TAIL


def write(folder: Path, *, stop_at: tuple[str, ...] = (), steps: int = 12, console: Console | None = None) -> tuple[RunWriter, Watchman]:
    writer = RunWriter.create(folder, config_toml="", manifest={})
    if console is not None:
        writer.subscribe(TerminalView(console))
    watchman = Watchman(writer, stop_at)
    writer.subscribe(watchman)
    for step in range(1, steps + 1):
        writer.log(step, healthy(step) | {"completions/clipped_ratio": 0.9})
    return writer, watchman


def test_each_alert_is_recorded_once_at_its_step(tmp_path: Path) -> None:
    """Prevents: the same warning after every step, which nobody reads."""
    write(tmp_path / "run")
    (event,) = Run(tmp_path / "run").events("alert")
    assert (event["id"], event["step"]) == ("truncation", 5)
    assert "90%" in event["evidence"] and "max_completion_length" in event["advice"]


def test_a_resumed_run_does_not_say_it_again(tmp_path: Path) -> None:
    write(tmp_path / "run")[0].close()
    writer = RunWriter.reopen(tmp_path / "run", last_step=12)
    writer.subscribe(Watchman(writer))
    writer.log(13, healthy(13) | {"completions/clipped_ratio": 0.9})
    assert len(Run(tmp_path / "run").events("alert")) == 1


def test_a_resumed_run_remembers_how_it_began(tmp_path: Path) -> None:
    """Prevents: a collapse that is judged by the steps after it alone."""
    writer, _ = write(tmp_path / "run")
    writer.close()
    writer = RunWriter.reopen(tmp_path / "run", last_step=12)
    writer.subscribe(Watchman(writer))
    for step in range(13, 18):
        writer.log(step, healthy(step) | {"reward": -5.0})
    assert "reward-collapse" in [event["id"] for event in Run(tmp_path / "run").events("alert")]


def test_the_one_to_stop_at_is_heeded(tmp_path: Path) -> None:
    assert write(tmp_path / "a")[1].heeded is None
    assert write(tmp_path / "b", stop_at=("no-signal",))[1].heeded is None
    for name, stop_at in (("c", ("no-signal", "truncation")), ("d", ("all",))):
        found = write(tmp_path / name, stop_at=stop_at)[1].heeded
        assert found is not None and found.id == "truncation"


def test_an_alert_of_a_step_that_is_taken_back_comes_anew(tmp_path: Path) -> None:
    """Prevents: `--strict` that stops nothing after a kill, as its alert was told of steps that were then lost."""
    write(tmp_path / "run")[0].close()
    writer = RunWriter.reopen(tmp_path / "run", last_step=2)
    watchman = Watchman(writer, ("truncation",))
    writer.subscribe(watchman)
    for step in range(3, 12):
        writer.log(step, healthy(step) | {"completions/clipped_ratio": 0.9})
    assert watchman.heeded is not None and watchman.heeded.id == "truncation"
    assert [event["step"] for event in Run(tmp_path / "run").alerts()] == [5]
    writer.close()


def test_an_alert_before_the_checkpoint_stays_told(tmp_path: Path) -> None:
    """It stopped the run, which its user has resumed on purpose."""
    write(tmp_path / "run")[0].close()
    writer = RunWriter.reopen(tmp_path / "run", last_step=5)
    watchman = Watchman(writer, ("truncation",))
    writer.subscribe(watchman)
    for step in range(6, 12):
        writer.log(step, healthy(step) | {"completions/clipped_ratio": 0.9})
    assert watchman.heeded is None and [event["step"] for event in Run(tmp_path / "run").alerts()] == [5]
    writer.close()


def test_it_knows_the_penalties_of_the_run(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={"penalties": ["overlong"]})
    writer.subscribe(Watchman(writer))
    for step in range(1, 15):
        writer.log(step, healthy(step) | {"rewards/overlong/mean": 0.0, "rewards/overlong/std": 0.0})
    assert Run(tmp_path / "run").alerts() == []
    writer.close()


def test_a_long_run_is_not_kept_in_memory(tmp_path: Path) -> None:
    _, watchman = write(tmp_path / "run", steps=2 * PIECES)
    assert [len(watchman._metrics), watchman._metrics[0]["step"]] == [TAIL, 2 * PIECES - TAIL + 1]
    assert watchman._course.steps == 2 * PIECES and len(watchman._course.values("reward")) < PIECES


def test_a_log_file_shows_an_alert_when_it_comes(tmp_path: Path) -> None:
    """Prevents: an alert that waits for the next of twenty lines."""
    shown = io.StringIO()
    write(tmp_path / "run", console=Console(file=shown, width=200))
    assert shown.getvalue().count("Many completions are cut off") == 1


def test_a_name_that_is_no_alert_is_an_error() -> None:
    """Prevents: a guard with a typo in it, which never fires."""
    from heron.config import load_config

    with pytest.raises(ConfigError, match="no-signal"):
        load_config("arithmetic", {"train": {"strict": ["no-signl"]}})
