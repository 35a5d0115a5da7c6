"""Other trackers hear the numbers that were recorded: TensorBoard's and the table's files are read back, the others through a stand-in."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heron.compat import from_grpo_config
from heron.config import load_config
from heron.errors import ConfigError, MissingExtra
from heron.run import Run, RunWriter, sinks
from heron.run.sinks import SINKS, check_sinks, subscribe_sinks


def record(folder: Path, *names: str) -> Path:
    writer = RunWriter.create(folder, config_toml="", manifest={})
    subscribe_sinks(writer, names, {"train": {"seed": 3}})
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


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, init: Any) -> None:
    """A package of a tracker that has only `init`."""
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=init, __spec__=SimpleNamespace(name=name)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_are_told_the_run_its_settings_and_its_numbers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a tracker that is opened under another name than the run has, or never closed, so that its last numbers are lost."""
    told: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finished"))
    stand_in(monkeypatch, name, lambda **given: told.append(given) or run)
    record(tmp_path / "mine", name)
    opened, *values, last = told
    assert opened["name"].startswith("mine") and opened["config"] == {"train": {"seed": 3}} and last == "finished"
    assert values == [(0, {"eval/accuracy": 0.25, "eval/problems": 8.0}), (1, {"reward": 0.5, "rewards/a,b/mean": 1.5}), (2, {"kl": 0.25}),
                      (3, {"reward": 2.0})]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_runs_of_one_folder_name_stay_apart_and_a_resumed_or_copied_one_stays_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: `a/first` and `b/first` as one curve; a run that a resume, or a move to another folder, begins anew in the tracker; a
    folder's name that the tracker does not take as an id."""
    told: list[dict[str, Any]] = []
    run = SimpleNamespace(log=lambda values, step: None, finish=lambda: None)
    stand_in(monkeypatch, name, lambda **given: told.append(given) or run)
    awkward = "a: b,c; #1?'"
    for folder in ("a", "b"):
        record(tmp_path / folder / awkward, name)
    shutil.copytree(tmp_path / "a" / awkward, tmp_path / "moved")
    again = RunWriter.reopen(tmp_path / "moved", last_step=3)
    subscribe_sinks(again, [name], {})
    again.close()
    first, second, resumed = (given["id"] if name == "wandb" else given["name"] for given in told)
    assert first == resumed != second and all(given["name"].startswith(awkward) for given in told)
    if name == "wandb":
        assert re.fullmatch("[0-9a-f]+", first)


@pytest.mark.parametrize("name", SINKS)
def test_a_tracker_that_cannot_be_opened_is_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run that does not begin, minutes after it was started, since a server is away or an account has expired."""
    heard: list[str] = []

    def fail(*given: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(sinks, "SINKS", {**SINKS, name: fail, "other": lambda *given: lambda kind, payload: heard.append(kind)})
    with pytest.warns(UserWarning, match=rf"{name} could not be opened and is left out.*no network"):
        record(tmp_path / "run", name, "other")
    (event,) = Run(tmp_path / "run").events("listener_failed")
    assert event["tracker"] == name and "no network" in event["error"] and heard.count("metrics") == 3


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

    stand_in(monkeypatch, "wandb", lambda **given: SimpleNamespace(log=fail))
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
