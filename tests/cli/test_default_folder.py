"""Where a run is recorded if nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron.api import default_run_dir
from heron.config import Config


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a script that trains twice in a row, and is told that its second run would overwrite the first."""
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(3):
        found.append(default_run_dir(Config()))
        found[-1].mkdir(parents=True)
    assert len(set(found)) == 3


@pytest.mark.parametrize(("recipe", "begins"), [("llama-3.2-3b", "llama-3.2-3b-2"), ("my.own.toml", "my.own-2"), ("gsm8k", "gsm8k-2")])
def test_the_folder_has_the_whole_name_of_the_recipe(recipe: str, begins: str) -> None:
    """Prevents: runs of llama-3.2-3b and of llama-3.2-1b that are both called llama-3."""
    assert default_run_dir(Config(recipe=recipe)).name.startswith(begins)
