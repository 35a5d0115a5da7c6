"""Whole runs whose reward function fails at some answers: the run goes on without them, or stops, as it was told to."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import small_config

from heron.errors import RewardError
from heron.run import Run
from heron.training.anchor import anchored
from heron.training.assemble import assemble

FILE = """
    import time

    def picky(completion):
        if len(completion) % 3 == 0:
            raise ValueError("a multiple of three")
        return len(set(completion)) / 10

    def hanging(completion):
        if len(completion) % 3 == 0:
            time.sleep(1000)
        return len(set(completion)) / 10
"""


@pytest.fixture
def rewards(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    return str(tmp_path / "mine.py")


def run_of(folder: Path, tmp_path: Path, **rewards: object) -> Run:
    config = small_config(folder, rewards={"weights": [], **rewards}, train={"max_steps": 1})
    assemble(config, tmp_path / "run").train()
    return Run(tmp_path / "run")


@pytest.mark.parametrize(("name", "timeout"), [("picky", 0.0), ("hanging", 0.2)])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.filterwarnings("ignore:The reward function")
def test_a_run_goes_on_without_the_answers_that_failed(
    tiny_folder: Callable[[str], Path], tmp_path: Path, rewards: str, name: str, timeout: float, overlap: bool
) -> None:
    """Prevents: a failure that is trained on as a score, or seen by nobody."""
    run = run_of(tiny_folder("qwen3"), tmp_path, functions=[f"{rewards}:{name}"], on_error="exclude", timeout=timeout, overlap=overlap)
    (metrics,) = run.metrics()
    rows = run.rollouts(1)
    failed = [row for row in rows if len(row["text"]) % 3 == 0]
    assert 0 < len(failed) < len(rows) and metrics["rewards/excluded"] == len(failed)
    for row in rows:
        assert (row["reward"] is None) == (row["rewards"][name] is None) == ("error" in row) == (row in failed)
    assert all(row["advantage"] == 0.0 and name in row["error"] for row in failed)


def test_a_run_stops_by_default_before_the_weights_move(tiny_folder: Callable[[str], Path], tmp_path: Path, rewards: str) -> None:
    """Prevents: a run that goes on with a broken reward without having been told to."""
    with pytest.raises(RewardError, match="multiple of three"):
        run_of(tiny_folder("qwen3"), tmp_path, functions=[f"{rewards}:picky"])
    assert Run(tmp_path / "run").status == "failed" and not Run(tmp_path / "run").metrics()


def test_files_of_rewards_are_found_from_anywhere_afterwards(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a run that cannot be resumed from another folder for a grader, or a task, in the name."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "grader.json"):
        (tmp_path / name).write_text(json.dumps({}))
    config = small_config(tiny_folder("qwen3"))
    names = ("mine.py", "mine.py:f", "mine.py:f@math", "mine.py@math", "grader.json", "grader.json@math", "gsm8k.integer@math", "gone.py:f")
    config = dataclasses.replace(config, rewards=dataclasses.replace(config.rewards, functions=names, weights=()))
    assert anchored(config).rewards.functions == (
        *(f"{tmp_path}/{name}" for name in names[:6]), "gsm8k.integer@math", "gone.py:f",
    )
