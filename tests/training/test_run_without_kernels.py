"""A run records whether it computes by compiled kernels, and says so when it goes on otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import make_trainer, small_config, some_flat

from heron.kernels.host.build import built
from heron.models import Policy
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble

FolderOf = Callable[[str], Path]


def began(folder: Path, run_dir: Path) -> Run:
    """A run that was interrupted before its first step."""
    trainer = make_trainer(small_config(folder), run_dir)
    trainer.run.finish("interrupted", {})
    return Run(run_dir)


def notices(run_dir: Path) -> list[str]:
    """What is said about kernels when the run goes on."""
    reassemble(run_dir, rewards=resolve([some_flat])).run.close()
    return [event["text"] for event in Run(run_dir).events() if event["kind"] == "message" and "kernels" in event["text"]]


def test_the_record_says_what_this_machine_has(tiny_folder: FolderOf, tmp_path: Path) -> None:
    """Prevents: two runs that differ by rounding, and nothing that says why."""
    assert began(tiny_folder("qwen3"), tmp_path / "run").manifest["host_kernels"] is (built().code is not None)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_going_on_with_other_kernels_is_said_once(
    tiny_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, now: bool
) -> None:
    """Prevents: a resumed run that is taken for the uninterrupted one, bit for bit, after its compiler was removed; a needless warning."""
    monkeypatch.setattr(Policy, "is_hosted", before)
    assert began(tiny_folder("qwen3"), tmp_path / "run").manifest["host_kernels"] is before
    monkeypatch.setattr(Policy, "is_hosted", now)
    said = notices(tmp_path / "run")
    assert len(said) == (before != now)
    if said:
        expected = "began with compiled kernels for the CPU and goes on without" if before else "began without compiled kernels"
        assert expected in said[0] and "not bit for bit" in said[0]


def test_a_run_from_before_the_kernels_had_none(tiny_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run of an older version that cannot be resumed, or goes on with kernels without a word."""
    monkeypatch.setattr(Policy, "is_hosted", True)
    path = began(tiny_folder("qwen3"), tmp_path / "run").path / "run.json"
    manifest = json.loads(path.read_text())
    del manifest["host_kernels"]
    path.write_text(json.dumps(manifest))
    assert len(notices(tmp_path / "run")) == 1
