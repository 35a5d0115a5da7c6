"""Processes that a training waits for are killed: it ends or goes on as it was told to, within a bounded time, and nothing is lost."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sittings import Lives, begun
from small_runs import make_trainer, small_config, some_flat

from heron.errors import EngineError
from heron.rewards import resolve
from heron.run import Run
from heron.sandbox import tree
from heron.training.assemble import reassemble

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def lives(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    with begun(tiny_folder("qwen3"), tmp_path_factory.mktemp("deaths")) as made:
        yield made


def worker_of(trainer: int) -> int:
    """The process that scores, below its keeper."""
    (keeper,) = tree.children(trainer)
    (worker,) = tree.children(keeper)
    return worker


@pytest.mark.slow
@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_a_reward_process_that_is_killed_stops_the_run_saved(lives: Lives, tmp_path: Path, who: str) -> None:
    """Prevents: a run that waits for ever, trains on a made-up score, or loses its steps, since a memory killer took a reward."""
    trainer = lives.begin("score", "train|--rewards.timeout=60", tmp_path / "run")
    worker = worker_of(trainer)
    os.kill(worker if who == "worker" else tree.children(trainer)[0], signal.SIGKILL)
    begun_at = time.monotonic()
    assert lives.code() == 1 and time.monotonic() - begun_at < 10
    run = Run(tmp_path / "run")
    assert run.status == "failed" and "killed from outside (SIGKILL)" in (run.error or "")
    assert [path.name for path in run.path.glob("checkpoints/step-*")] == ["step-000002"]
    whole = tmp_path / "whole"
    assert lives.run("resume", run.path) == 0 and lives.run("train", whole) == 0
    assert (run.model_dir / "model.safetensors").read_bytes() == (Run(whole).model_dir / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_reward_process_that_is_killed_costs_one_answer_where_that_is_asked_for(lives: Lives, tmp_path: Path) -> None:
    """Prevents: a training that ends for one answer although it was to go on, or goes on without a word."""
    trainer = lives.begin("score", "train|--rewards.timeout=60|--rewards.on_error=exclude", tmp_path / "run")
    os.kill(worker_of(trainer), signal.SIGKILL)
    assert lives.code() == 0
    run = Run(tmp_path / "run")
    assert run.status == "finished" and [record.get("rewards/excluded", 0) > 0 for record in run.metrics()] == [False, False, True, False]
    assert sum("killed from outside" in each.get("error", "") for each in run.rollouts(3)) == 1


@dataclass
class Server:
    """A fake vLLM, which takes seconds to start."""

    process: subprocess.Popen[bytes]

    @functools.cached_property
    def url(self) -> str:
        """Once it serves."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@pytest.fixture(scope="module")
def servers(tiny_folder: Callable[[str], Path]) -> Iterator[list[Server]]:
    """One for each time that one is killed, and one that stays; all start at once."""
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "engine")))
    words = [sys.executable, str(TESTS / "faults" / "fake_vllm.py"), str(tiny_folder("qwen3"))]
    made = [Server(subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})) for _ in range(3)]
    yield made
    for each in made:  # without those that a test has killed
        each.process.kill()
        each.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between two steps", "while it answers"])
def test_an_engine_that_is_killed_stops_the_run_saved(
    tiny_folder: Callable[[str], Path], servers: list[Server], tmp_path: Path, moment: str
) -> None:
    """Prevents: a training that waits for a server that is gone, ends with a traceback, or loses the steps since the last checkpoint."""
    stays, dies = servers[0], servers.pop()
    config = small_config(
        tiny_folder("qwen3"), model={"method": "lora", "lora_rank": 4}, train={"max_steps": 3, "save_steps": 0},
        rollout={"engine": "vllm", "vllm_url": dies.url, "vllm_folder": str(tmp_path / "shared"), "max_concurrent": 1},
    )
    trainer = make_trainer(config, tmp_path / "run")

    def strike(kind: str, payload: Mapping[str, Any]) -> None:
        is_time = kind == "metrics" if moment == "between two steps" else kind == "progress" and payload["phase"] == "sample"
        if is_time and trainer.state.step >= (0 if kind == "metrics" else 1):
            dies.process.kill()
            dies.process.communicate()

    trainer.run.subscribe(strike)
    begun_at = time.monotonic()
    with pytest.raises(EngineError, match="could not be reached"):
        trainer.train()
    assert time.monotonic() - begun_at < 60
    run = Run(tmp_path / "run")
    assert run.status == "failed" and "Is the server running?" in (run.error or "")
    assert [path.name for path in run.path.glob("checkpoints/step-*")] == ["step-000001"]
    reassemble(run.path, settings={"rollout": {"vllm_url": stays.url}}, rewards=resolve([some_flat])).train()
    assert run.status == "finished" and [record["step"] for record in run.metrics()] == [1, 2, 3]
