"""The sandbox of tools: a run of `python_tool` does not begin without one, and its record names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import make_trainer, small_config

from heron.config import Config
from heron.environments import making
from heron.errors import SandboxError
from heron.run import Run

OWN = """
from heron.environments import SingleTurn

class Runs(SingleTurn):
    runs_programs = True

def make(tags):
    return Runs()
"""


def config(folder: Path, tmp_path: Path, name: str) -> Config:
    (tmp_path / "own.py").write_text(OWN)
    settings = {"python_tool": {"tool_format": "plain"}, "tool_use": {"tool_format": "plain", "tools": ("calculate",)}}
    return small_config(folder, environment={"name": name.replace("own.py", str(tmp_path / "own.py")), **settings.get(name, {})})


@pytest.mark.parametrize(("name", "runs"), [("python_tool", True), ("own.py:make", True), ("tool_use", False), ("single_turn", False)])
def test_record_says_what_held_the_programs(tiny_folder: Callable[[str], Path], tmp_path: Path, name: str, runs: bool) -> None:
    """Prevents: a run whose tools ran programs, and nobody can say in what."""
    make_trainer(config(tiny_folder("qwen3"), tmp_path, name), tmp_path / "run")
    assert Run(tmp_path / "run").manifest["sandbox"] in (("bubblewrap", "landlock") if runs else (None,))


def test_run_of_programs_does_not_begin_without_a_sandbox(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a run that finds out at its first call, after the model was loaded, that nothing holds programs here."""

    def refuse() -> str:
        raise SandboxError("nothing holds here")

    monkeypatch.setattr(making, "backend_name", refuse)
    with pytest.raises(SandboxError, match="nothing holds"):
        make_trainer(config(tiny_folder("qwen3"), tmp_path, "python_tool"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
