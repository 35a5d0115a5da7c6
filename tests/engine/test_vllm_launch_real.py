"""`heron serve --engine vllm` with a real vLLM, where one is installed (docs/vllm.md): its CPU build is enough. A minute."""

from __future__ import annotations

import importlib.util
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tinymodels import load_tiny, random_ids, save_tiny, stir_adapter

from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.engine.vllm import ServedVllm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (docs/vllm.md says how, without a GPU too)"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("qwen3", tmp_path_factory.mktemp("launched") / "tiny", hidden_size=64, head_dim=32)


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes adapters and every weight. In the end, Ctrl-C must leave nothing of it behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--full", "--lora-rank", "4", "--max-model-len", "512", "--cache-gib", "0.25"]
    log = tmp_path_factory.mktemp("server") / "log"
    shared = _shared_memory()
    command = [sys.executable, "-m", "heron.cli.main", "serve", str(folder), "--engine", "vllm", *options]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, cwd=log.parent)
    try:
        _wait_for("vLLM answers at", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        workers = _children(server.pid)
        server.send_signal(signal.SIGINT)
        code = server.wait(90)
    assert code == 0, log.read_text()[-2000:]
    assert workers
    _wait_for_the_end(workers)
    assert _shared_memory() <= shared


def _wait_for(words: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while words not in log.read_text():
        if server.poll() is not None or time.monotonic() > until:
            server.terminate()
            pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.5)


def _wait_for_the_end(pids: list[int], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.1)


def _shared_memory() -> set[Path]:
    """What vLLM's processes hand to each other, and must take away."""
    return set(Path("/dev/shm").glob("psm_*"))


def _children(pid: int) -> list[int]:
    """All processes below this one."""
    own = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return own + [below for child in own for below in _children(child)]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_can_use_it(folder: Path, url: str, tmp_path: Path, method: str) -> None:
    """Prevents: flags that start a server, but not one into which weights can be pushed and whose log-probs pass the probe."""
    policy = load_tiny(folder, method=method, lora_rank=4)
    if policy.is_lora:
        stir_adapter(policy, scale=0.05)
    engine = ServedVllm(policy, url, shared_folder=tmp_path, timeout=300)
    request = Request(prompt_ids=random_ids(random.Random(0), 20), seeds=(1, 2, 3))
    for _ in range(2):
        with engine.awake():
            (answers,) = engine.generate([request], SamplingParams(max_tokens=8, temperature=0.8))
        assert len({answer.token_ids for answer in answers}) == 3 and engine.mismatch is not None and engine.mismatch < 1e-4
        with torch.no_grad():
            for _, weight in policy.trainable():
                weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(policy.version))
        policy.version += 1
        engine.sync()
    engine.close()


def test_only_this_machine_reaches_it(url: str) -> None:
    """Prevents: a server that other machines reach."""
    port = int(url.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [address for address in listening if int(address.rpartition(":")[2], 16) == port] == [f"0100007F:{port:04X}"]
    assert urllib.request.urlopen(f"{url}/health", timeout=10).status == 200
