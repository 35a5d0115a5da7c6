"""Disks that are full, cannot be written, or give back something else than they were given."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from small_runs import make_trainer, outcome, small_config, some_flat

from heron.config import Config
from heron.errors import SaveError
from heron.rewards import resolve
from heron.run import Run
from heron.run.flaws import flaws
from heron.training.assemble import reassemble
from heron.training.keeping import find
from heron.training.trainer import Trainer


@pytest.fixture(scope="module")
def config(tiny_folder: Callable[[str], Path]) -> Config:
    return small_config(
        tiny_folder("qwen3"), train={"max_steps": 4, "save_steps": 1}, evaluation={"size": 2, "steps": 2, "samples": 1},
        rollout={"num_generations": 4, "max_completion_length": 6, "temperature": 0.8},
    )


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four steps on a disk without faults; read only."""
    path = tmp_path_factory.mktemp("whole") / "run"
    make_trainer(config, path).train()
    return Run(path)


def resumed(path: Path) -> Run:
    reassemble(path, rewards=resolve([some_flat])).train()
    return Run(path)


def at(trainer: Trainer, step: int, do: Callable[[], object], *, kind: str = "metrics") -> None:
    """Do something when this step is recorded."""

    def listener(heard: str, payload: Mapping[str, Any]) -> None:
        if heard == kind and payload["step"] == step:
            do()

    trainer.run.subscribe(listener)


@contextlib.contextmanager
def small_files(trainer: Trainer, *, first: int, last: int | None, size: int) -> Iterator[None]:
    """From one step to another the system lets no file grow larger than this, as a full disk does; needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at(trainer, first, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1])))
    if last is not None:
        at(trainer, last, lambda: (trainer.keeper.wait(), resource.setrlimit(resource.RLIMIT_FSIZE, before)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_save_that_fails_is_told_and_tried_again(config: Config, whole: Run, tmp_path: Path) -> None:
    """Prevents: a training of days that ends because the disk was full for a minute; a failure that nobody hears of."""
    trainer = make_trainer(config, tmp_path / "run")
    with small_files(trainer, first=2, last=4, size=60_000):
        trainer.train()
    run = Run(tmp_path / "run")
    assert outcome(run) == outcome(whole)
    assert {event["step"] for event in run.events("checkpoint_failed")} == {2, 3}
    assert [event["step"] for event in run.events("checkpoint")] == [1, 4]
    assert sum("Training goes on, and the next save tries again" in event["text"] for event in run.events("message")) == 2
    assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == ["latest", "step-000001", "step-000004"]


def test_a_disk_that_stays_full_is_an_error_at_the_end(config: Config, whole: Run, tmp_path: Path) -> None:
    """Prevents: a run that says "finished" and whose last steps are nowhere; one that cannot be resumed when there is room."""
    trainer = make_trainer(config, tmp_path / "run")
    message = r"step 4 could not be written.*heron resume"
    with small_files(trainer, first=3, last=None, size=60_000), pytest.raises(SaveError, match=message):
        trainer.train()
    run = Run(tmp_path / "run")
    assert run.status == "failed" and "step 4 could not be written" in str(run.error)
    assert find(run.path / "checkpoints").path == run.path / "checkpoints" / "step-000002"
    assert outcome(resumed(run.path)) == outcome(whole)


@pytest.mark.parametrize("kind", ["metrics", "checkpoint"])
def test_a_record_that_cannot_grow_ends_the_run_whole(config: Config, whole: Run, tmp_path: Path, kind: str) -> None:
    """Prevents: steps that are trained and not recorded; a torn line; a run that cannot be resumed when there is room."""
    trainer = make_trainer(config, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at(trainer, 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1])), kind=kind)
    try:
        with pytest.raises(SaveError, match=r"The record in .* cannot be written: .*heron resume"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run = Run(tmp_path / "run")
    assert run.status == "interrupted" and not flaws(run)
    assert [record["step"] for record in run.metrics()] == list(range(1, len(run.metrics()) + 1))
    assert outcome(resumed(run.path)) == outcome(whole)


def mounted(path: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a file system here")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_small_file_system_fills_up(config: Config, whole: Run, tmp_path: Path) -> None:
    """Prevents: what a limit on a file's size does not show: a disk on which nothing at all has room any more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted(disk, "size=6m")
    try:
        trainer = make_trainer(config, disk / "run")
        at(trainer, 2, lambda: (disk / "other").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 90_000)))
        with pytest.raises(SaveError):
            trainer.train()
        (disk / "other").unlink()
        assert outcome(resumed(disk / "run")) == outcome(whole)
        assert not flaws(Run(disk / "run"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_folder_that_cannot_be_written(config: Config, whole: Run, tmp_path: Path) -> None:
    """Prevents: training that ends, or goes on in silence, where checkpoints cannot be written for a while."""
    folder = tmp_path / "run" / "checkpoints"
    trainer = make_trainer(config, tmp_path / "run")
    is_root = os.geteuid() == 0  # who may write whatever a folder's rights say
    if is_root:
        mounted(folder, "size=6m")
    try:
        at(trainer, 2, lambda: (trainer.keeper.wait(), forbid(folder, is_root)))
        at(trainer, 4, lambda: (trainer.keeper.wait(), allow(folder, is_root)))
        trainer.train()
        run = Run(tmp_path / "run")
        assert outcome(run) == outcome(whole)
        failed = run.events("checkpoint_failed")
        assert [event["step"] for event in failed] == [2, 3] and ("Read-only" in failed[0]["error"] or "Permission" in failed[0]["error"])
    finally:
        if is_root:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def forbid(folder: Path, is_root: bool) -> None:
    if is_root:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        folder.chmod(0o500)


def allow(folder: Path, is_root: bool) -> None:
    if is_root:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    else:
        folder.chmod(0o700)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (flipped, "SHA-256"), "truncated": (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes instead of"),
    "emptied": (lambda path: os.truncate(path, 0), "bytes instead of"), "removed": (Path.unlink, "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_is_looked_at(whole: Run, tmp_path: Path, damage: str) -> None:
    """Prevents: a file that may be anything; a checkpoint that is passed over without the reason."""
    do, words = DAMAGES[damage]
    newest = whole.path / "checkpoints" / "step-000004"
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file()]
    assert len(files) > 8
    for number, name in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(whole.path / "checkpoints", folder)
        do(folder / "step-000004" / name)
        found = find(folder)
        assert found.path == folder / "step-000003", f"{name} was not looked at"
        fault = found.skipped["step-000004"]
        assert str(name) in fault or name.name == "MANIFEST.json"
        assert words in fault or name.name == "MANIFEST.json"


def test_every_checkpoint_damaged_is_the_start_again(config: Config, whole: Run, tmp_path: Path) -> None:
    """Prevents: going on from damaged weights because there are no others; a half-written folder that is taken for a checkpoint."""
    trainer = make_trainer(config, tmp_path / "run")
    at(trainer, 4, lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    folder = tmp_path / "run" / "checkpoints"
    for path in folder.glob("step-*"):
        flipped(path / "model" / "model.safetensors")
    shutil.copytree(folder / "step-000003" / "model", folder / ".step-000004.partial" / "model")
    run = resumed(tmp_path / "run")
    assert outcome(run) == outcome(whole)
    skipped = {event["path"]: event["fault"] for event in run.events("checkpoint_skipped")}
    assert skipped.keys() == {"step-000002", "step-000003", ".step-000004.partial"}
    assert any("the run goes back to its start" in event["text"] for event in run.events("message"))
    assert not list(folder.glob(".step-*"))
