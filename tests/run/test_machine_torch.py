"""What the doctor says of torch and of the compiled kernels: what another process tells, or why it could not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heron.kernels.host.build import built
from heron.run.machine import Fact, torch
from heron.run.machine.torch import torch_facts

KERNELS = "compiled kernels (CPU)"
GPU = {"name": "NVIDIA H200", "capability": "9.0", "bfloat16": True}


def told(**found: object) -> list[Fact]:
    """The facts about a torch that answers so."""
    answer = {"version": "2.13.0", "cuda": "13.0", "is_available": True, "gpus": [GPU], **found}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "TORCH", f"print({json.dumps(json.dumps(answer))})")
        patch.setattr(torch, "KERNELS", "print('there')")
        return torch_facts(has_gpu=True)


def fact(name: str) -> Fact:
    return next(each for each in torch_facts() if each.name == name)


def test_it_is_what_this_process_has() -> None:
    """Prevents: a report of good health while every run is slow, or the other way round."""
    import torch as imported

    assert fact(KERNELS).words == built().verdict
    assert built().verdict.startswith("there" if built().code is not None else "none")
    assert fact("torch").data["version"] == imported.__version__ and fact("torch").advice == ""


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a user who wonders why the neighbour's machine is three times as fast."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fact(KERNELS).words == "none, torch does all of it: there is no C compiler (gcc or clang) on this machine"


@pytest.mark.parametrize(
    ("program", "patience", "words"),
    [
        ("import torch_that_is_not_there", 60, "No module named 'torch_that_is_not_there'"),
        ("import os; os._exit(7)", 60, "exit code 7"),
        ("import time; time.sleep(30)", 0.5, "more than 0.5 seconds"),
        ("print('Illegal instruction')", 60, "Expecting value"),
    ],
)
def test_a_broken_torch_does_not_break_the_report(monkeypatch: pytest.MonkeyPatch, program: str, patience: float, words: str) -> None:
    """The doctor is asked most when something is broken."""
    monkeypatch.setattr(torch, "TORCH", program)
    monkeypatch.setattr(torch, "PATIENCE_S", patience)
    monkeypatch.setattr(torch, "KERNELS", "print('there')")
    found = fact("torch")
    assert found.words.startswith("not known: ") and words in found.words and "\n" not in found.words and found.advice


def test_what_lies_beside_the_user_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: `heron doctor` in a folder with a file called torch.py, which would be imported in torch's place."""
    (tmp_path / "torch.py").write_text("raise SystemExit('not torch')")
    monkeypatch.chdir(tmp_path)
    assert fact(KERNELS).words == built().verdict


def test_a_gpu_that_torch_cannot_use_is_named() -> None:
    """Prevents: a night on the CPU of a machine with a GPU, since the wrong torch was installed or the driver is old."""
    fine = told()
    assert [each.name for each in fine] == ["torch", "GPU 0 precision", KERNELS] and not any(each.advice for each in fine)
    assert "built without CUDA" in told(cuda=None, is_available=False, gpus=[])[0].advice
    assert "CUDA_VISIBLE_DEVICES" in told(is_available=False, gpus=[])[0].advice
    old = told(gpus=[{**GPU, "bfloat16": False}])[1]
    assert "no bfloat16" in old.words and "--model.dtype" in old.advice
