"""Other trackers hear the numbers that were recorded: TensorBoard's and the table's files are read back, the others through a stand-in."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heron.compat import from_grpo_config
from heron.config import load_config
from heron.errors import ConfigError, MissingExtra
from heron.run import RunWriter
from heron.run.sinks import SINKS, check_sinks, open_sinks


def record(folder: Path, *names: str) -> Path:
    writer = RunWriter.create(folder, config_toml="", manifest={})
    for sink in open_sinks(names, folder, {"train": {"seed": 3}}):
        writer.subscribe(sink)
    writer.evaluation("before", [], {"accuracy": 0.25, "step": 0, "problems": 8})
    writer.log(1, {"reward": 0.5, "rewards/a,b/mean": 1.5})
    writer.log(2, {"reward": float("nan"), "kl": 0.25})
    writer.log(3, {"reward": 2.0, "kl": float("inf")})
    writer.finish("finished", {})
    return folder


def test_the_table_has_a_column_for_every_number_and_no_invented_ones(tmp_path: Path) -> None:
    """Prevents: numbers that move into another column when a step logs something new."""
    with open(record(tmp_path / "run", "csv") / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "reward": "0.5", "rewards/a,b/mean": "1.5", "kl": ""},
        {"step": "2", "reward": "", "rewards/a,b/mean": "", "kl": "0.25"},
        {"step": "3", "reward": "2.0", "rewards/a,b/mean": "", "kl": ""},
    ]


def test_tensorboard_reads_what_was_recorded(tmp_path: Path) -> None:
    found = EventAccumulator(str(record(tmp_path / "run", "tensorboard") / "tensorboard"))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("reward")] == [(1, 0.5), (3, 2.0)]
    assert [(each.step, each.value) for each in found.Scalars("eval/accuracy")] == [(0, 0.25)]
    assert "step" not in found.Tags()["scalars"] and "eval/step" not in found.Tags()["scalars"]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_are_told_the_run_its_settings_and_its_numbers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a tracker that is opened under another name than the run has, or never closed, so that its last numbers are lost."""
    told: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finished"))
    module = SimpleNamespace(init=lambda **given: told.append(given) or run, __spec__=SimpleNamespace(name=name))
    monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    record(tmp_path / "mine", name)
    opened, *values, last = told
    assert opened["name"] == "mine" and opened["config"] == {"train": {"seed": 3}} and last == "finished"
    assert values == [(0, {"eval/accuracy": 0.25, "eval/problems": 8.0}), (1, {"reward": 0.5, "rewards/a,b/mean": 1.5}), (2, {"kl": 0.25}),
                      (3, {"reward": 2.0})]


def test_a_tracker_that_is_absent_is_named_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in SINKS:
        if name == "csv":
            check_sinks([name])
            continue
        with pytest.raises(MissingExtra, match=rf"heron-rl\[{name}\]"):
            check_sinks([name])


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a night lost to somebody else's server."""
    def fail(values: Any, step: int) -> None:
        raise OSError("no network")

    module = SimpleNamespace(init=lambda **given: SimpleNamespace(log=fail), __spec__=SimpleNamespace(name="wandb"))
    monkeypatch.setitem(sys.modules, "wandb", module)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="switched off"):
        record(tmp_path / "run", "wandb")


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        load_config("arithmetic", {"train": {"report_to": ["tensorbord"]}})


@pytest.mark.parametrize(("given", "wanted"), [("none", []), (None, []), (["wandb"], ["wandb"]), ("tensorboard", ["tensorboard"]),
                                               ("all", ["tensorboard", "trackio", "wandb"])])
def test_trls_option_carries_over(given: Any, wanted: list[str]) -> None:
    overrides, _ = from_grpo_config({"report_to": given})
    assert overrides.get("train", {}).get("report_to", []) == wanted


def test_a_tracker_that_is_not_known_is_said_to_be_so() -> None:
    _, notes = from_grpo_config({"report_to": ["comet_ml"]})
    assert any(note.kind == "unsupported" and "comet_ml" in note.text for note in notes)
