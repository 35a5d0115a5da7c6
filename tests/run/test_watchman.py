"""Alerts as they happen: each once, in the record, and on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from test_alerts import healthy

from heron.errors import ConfigError
from heron.run import Run, RunWriter, TerminalView, Watchman
from heron.run.alerts.history import HEAD, TAIL


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


def test_a_long_run_is_not_kept_in_memory(tmp_path: Path) -> None:
    _, watchman = write(tmp_path / "run", steps=2 * (HEAD + TAIL))
    assert len(watchman._metrics) == HEAD + TAIL
    assert [record["step"] for record in watchman._metrics[HEAD - 1 : HEAD + 1]] == [HEAD, 2 * (HEAD + TAIL) - TAIL + 1]


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
