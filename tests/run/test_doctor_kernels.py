"""The doctor's line about compiled kernels: what another process says, or why it could not say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron.kernels.host.build import built
from heron.run import doctor, machine_report

LINE = "compiled kernels (CPU)"


def test_it_is_what_this_process_has() -> None:
    """Prevents: a report of good health while every run is slow, or the other way round."""
    assert machine_report()[LINE] == built().verdict
    assert built().verdict.startswith("there" if built().code is not None else "none")


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a user who wonders why the neighbour's machine is three times as fast."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_report()[LINE] == "none, torch does all of it: there is no C compiler (gcc or clang) on this machine"


@pytest.mark.parametrize(
    ("program", "patience", "words"),
    [
        ("import torch_that_is_not_there", 60, "No module named 'torch_that_is_not_there'"),
        ("import os; os._exit(7)", 60, "exit code 7"),
        ("import time; time.sleep(30)", 0.5, "more than 0.5 seconds"),
    ],
)
def test_a_broken_torch_does_not_break_the_report(monkeypatch: pytest.MonkeyPatch, program: str, patience: float, words: str) -> None:
    """The doctor is asked most when something is broken."""
    monkeypatch.setattr(doctor, "KERNELS", program)
    monkeypatch.setattr(doctor, "KERNELS_PATIENCE_S", patience)
    line = machine_report()[LINE]
    assert line.startswith("not known: ") and words in line and "\n" not in line


def test_what_lies_beside_the_user_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: `heron doctor` in a folder with a file called torch.py, which would be imported in torch's place."""
    (tmp_path / "torch.py").write_text("raise SystemExit('not torch')")
    monkeypatch.chdir(tmp_path)
    assert machine_report()[LINE] == built().verdict
