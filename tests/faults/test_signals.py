"""Real signals to a real process, in each phase of a step: what is finished is saved, and the resumed run ends with the same weights."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sittings import Lives, begun

from heron.run import Run


@pytest.fixture(scope="module")
def lives(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    with begun(tiny_folder("qwen3"), tmp_path_factory.mktemp("signals")) as made:
        yield made


@pytest.fixture(scope="module")
def whole(lives: Lives) -> Run:
    """The run that no signal has met."""
    assert lives.run("train", lives.folder / "whole") == 0
    return Run(lives.folder / "whole")


def goes_on_to_the_same(lives: Lives, whole: Run, run: Run) -> None:
    """Weights bit for bit, and every step once."""
    assert run.status == "interrupted"
    assert lives.run("resume", run.path) == 0
    assert run.status == "finished" and [record["step"] for record in run.metrics()] == [1, 2, 3, 4]
    assert (run.model_dir / "model.safetensors").read_bytes() == (whole.model_dir / "model.safetensors").read_bytes()


def newest(run: Run) -> str:
    """Name of the newest checkpoint; empty if there is none."""
    return max((path.parent.name for path in run.path.glob("checkpoints/step-*/MANIFEST.json")), default="")


def strike(pid: int, *numbers: int) -> None:
    """Apart, as the kernel makes one of two equal signals that wait."""
    for number in numbers:
        os.kill(pid, number)
        time.sleep(0.2)


PHASES = {
    "sample": ("sample", ()), "score": ("score", ()), "train": ("train", ()), "evaluate": ("evaluate", ()),
    "score in a process": ("score", ("--rewards.timeout=60",)), "score beside": ("score", ("--rewards.overlap=true",)),
    "await": ("await", ("--rewards.functions=['FOLDER/rewards.py:spread','FOLDER/rewards.py:later']",)),
}
"""Where a step can be given up: what is waited in, and settings."""


def begin(lives: Lives, phase: str, run: Path, *settings: str) -> int:
    waits_in, given = PHASES[phase]
    return lives.begin(waits_in, "|".join(("train", *given, *settings)).replace("FOLDER", str(lives.folder)), run)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_twice_gives_the_step_up_and_saves_those_before_it(lives: Lives, whole: Run, tmp_path: Path, phase: str) -> None:
    """Prevents: Ctrl-C that waits for a reward, a worker or an evaluation that does not come back; steps lost to it; half a step saved."""
    strike(begin(lives, phase, tmp_path / "run"), signal.SIGINT, signal.SIGINT)
    begun = time.monotonic()
    assert lives.code() == 130 and time.monotonic() - begun < 10
    run = Run(tmp_path / "run")
    assert newest(run) == "step-000002" and run.events("message")[-1]["text"].endswith("resuming goes on after step 2.")
    goes_on_to_the_same(lives, whole, run)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["sample", "score in a process"])
def test_sigterm_saves_within_its_deadline(lives: Lives, whole: Run, tmp_path: Path, phase: str) -> None:
    """Prevents: a run that its scheduler kills half a minute after it was asked to end, with nothing saved; the exit code of a Ctrl-C."""
    strike(begin(lives, phase, tmp_path / "run", "--train.term_deadline=0.5"), signal.SIGTERM)
    begun = time.monotonic()
    assert lives.code() == 143 and time.monotonic() - begun < 10
    run = Run(tmp_path / "run")
    assert newest(run) == "step-000002" and (run.summary or {})["stopped_by"] == "SIGTERM"
    goes_on_to_the_same(lives, whole, run)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_finishes_the_step(lives: Lives, whole: Run, tmp_path: Path, number: int, code: int) -> None:
    """Prevents: a step that is thrown away though it was nearly done; an exit code that says nothing of the signal."""
    strike(begin(lives, "train", tmp_path / "run"), number)
    lives.go_on()
    assert lives.code() == code
    run = Run(tmp_path / "run")
    assert newest(run) == "step-000003" and "Stopped after step 3, which is saved." in [each["text"] for each in run.events("message")]
    goes_on_to_the_same(lives, whole, run)


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "signals"), [("moved", (signal.SIGINT, signal.SIGINT)), ("moved", (signal.SIGTERM,)),
                                               ("save", (signal.SIGINT, signal.SIGINT))])
def test_weights_that_move_and_checkpoints_are_finished(
    lives: Lives, whole: Run, tmp_path: Path, phase: str, signals: tuple[int, ...]
) -> None:
    """Prevents: weights of half a step in a checkpoint that claims to be whole, and a checkpoint that is left half written."""
    settings = "--train.term_deadline=0.3|--train.save_steps=3" if phase == "save" else "--train.term_deadline=0.3"
    pid = lives.begin(phase, f"train|{settings}", tmp_path / "run")
    strike(pid, *signals)
    time.sleep(0.5)
    lives.go_on()
    assert lives.code() == 128 + signals[0]
    assert newest(Run(tmp_path / "run")) == "step-000003"
    goes_on_to_the_same(lives, whole, Run(tmp_path / "run"))


@pytest.mark.slow
def test_three_stop_at_once(lives: Lives, whole: Run, tmp_path: Path) -> None:
    """Prevents: a process that only kill -9 ends; a checkpoint of weights that belong to no step."""
    pid = lives.begin("moved", "train|--train.save_steps=1", tmp_path / "run")
    strike(pid, signal.SIGINT, signal.SIGINT, signal.SIGINT)
    assert lives.code() == 130
    assert newest(Run(tmp_path / "run")) == "step-000002"
    goes_on_to_the_same(lives, whole, Run(tmp_path / "run"))
