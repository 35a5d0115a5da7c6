"""The same, with a real vLLM, where one is installed (docs/vllm.md): its CPU build is enough. Minutes, most of them vLLM's start."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, random_ids, save_tiny, stir_adapter
from torch import Tensor

from heron.config import load_config
from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.engine.vllm import ColocatedVllm, ServedVllm
from heron.errors import EngineError
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.rewards import resolve
from heron.training.assemble import assemble
from heron.types import Completion, FinishReason

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (docs/vllm.md says how, without a GPU too)"),
]
DRAWN = SamplingParams(max_tokens=12, temperature=0.8)
SMALL = {"hidden_size": 64, "head_dim": 32}
"""The least that vLLM's attention takes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    return save_tiny("qwen3", tmp_path_factory.mktemp("real") / "tiny", **SMALL)


def requests(length: int = 20) -> list[Request]:
    draw = random.Random(0)
    return [
        Request(prompt_ids=random_ids(draw, length + number), seeds=tuple(100 * number + sibling for sibling in range(3)))
        for number in range(2)
    ]


def update(policy: Policy, scale: float) -> None:
    generator = torch.Generator().manual_seed(policy.version)
    with torch.no_grad():
        for _, weight in policy.trainable():
            weight += torch.randn(weight.shape, generator=generator) * scale
    policy.version += 1


def gap(policy: Policy, asked: list[Request], answers: list[list[Completion]], temperature: float) -> float:
    """Between vLLM's log-probs and the trainer's."""
    gaps = []
    for request, siblings in zip(asked, answers, strict=True):
        for answer in siblings:
            row = [*request.prompt_ids, *answer.token_ids[:-1]]
            plan = packed_plan([range(len(row))], device=policy.device)
            with torch.no_grad():
                hidden = policy.hidden(torch.tensor([row]), torch.arange(len(row))[None], plan)[0, len(request.prompt_ids) - 1 :]
                logprobs, _ = policy.logprobs(hidden, torch.tensor(answer.token_ids), temperature=temperature)
            gaps.append(float((logprobs - torch.tensor(answer.logprobs)).abs().max()))
    return max(gaps)


def pushes_and_answers(engine: Any, policy: Policy) -> None:
    """What both engines must do: the newest weights at every version, log-probs of what was drawn, seeds that decide."""
    for scale in (0.05, 1e-5):
        with engine.awake():
            answers = engine.generate(requests(), DRAWN)
            assert gap(policy, requests(), answers, 0.8) < 1e-3
            assert engine.generate(requests()[1:], DRAWN) == answers[1:]
            greedy = engine.generate(requests(), SamplingParams(max_tokens=4, temperature=0))
            assert gap(policy, requests(), greedy, 1.0) < 1e-3 and greedy[0][0].token_ids == greedy[0][1].token_ids
        assert engine.mismatch < 1e-4
        update(policy, scale)
        engine.sync()


@pytest.fixture(scope="module", params=["full", "lora"])
def colocated(request: pytest.FixtureRequest, folder: Path) -> Iterator[ColocatedVllm]:
    policy = load_tiny(folder, method=request.param, lora_rank=4)
    if policy.is_lora:
        stir_adapter(policy, scale=0.05)
    engine = ColocatedVllm(policy, max_concurrent=8, cache_bytes=2**26, max_model_len=512)
    yield engine
    engine.close()


def test_colocated(colocated: ColocatedVllm) -> None:
    pushes_and_answers(colocated, colocated.policy)


def test_small_stale_push_is_found(colocated: ColocatedVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a probe that only finds what a large update makes plain."""
    library = colocated.ready()
    monkeypatch.setattr(library, "push_tensors", lambda tensors: None)
    monkeypatch.setattr(colocated, "_push_adapter", lambda library: None)
    update(colocated.policy, 1e-5)
    with pytest.raises(EngineError, match="push was stale"):
        colocated.ready()
    monkeypatch.undo()
    colocated.ready()


@pytest.mark.parametrize("missing", ["layers.1.mlp", "lm_head"])
def test_small_partial_push_is_found(colocated: ColocatedVllm, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Prevents: trust in vLLM's silence. A head that is tied in the model is a copy in its CPU build."""
    library = colocated.ready()
    if colocated.policy.is_lora:
        pytest.skip("an adapter is one push")
    push: Callable[[Iterator[tuple[str, Tensor]]], None] = library.push_tensors
    monkeypatch.setattr(library, "push_tensors", lambda tensors: push(iter([pair for pair in tensors if missing not in pair[0]])))
    update(colocated.policy, 1e-4)
    with pytest.raises(EngineError, match="push was"):
        colocated.ready()
    monkeypatch.undo()
    colocated.ready()


def test_stale_prefix_cache_is_found(colocated: ColocatedVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: old keys and values under new weights. Adapters have names of their own, so their prompts are never shared."""
    library = colocated.ready()
    if colocated.policy.is_lora:
        pytest.skip("vLLM keeps prompts apart by the adapter's name")
    monkeypatch.setattr(library, "reset_cache", lambda: None)
    update(colocated.policy, 1e-3)
    with pytest.raises(EngineError, match="prefix cache is stale: 256 of 257"):
        colocated.ready()
    monkeypatch.undo()
    colocated.sync()
    colocated.ready()


def test_stop_strings_and_end_tokens(colocated: ColocatedVllm) -> None:
    """Prevents: a stop string cut off the tokens, end tokens lost, ignored ones obeyed."""
    decode = colocated.policy.tokenizer.decode
    hot = SamplingParams(max_tokens=24, temperature=1.5)
    asked = [replace(requests()[0], seeds=(seed,)) for seed in range(64)]
    answers = [answer for (answer,) in colocated.generate(asked, hot)]
    number, place = next(  # a letter that stands alone and is new, so that the text before it cannot complete it
        (number, place) for number, answer in enumerate(answers) for place, token in enumerate(answer.token_ids)
        if place > 2 and decode([token]).isascii() and decode([token]).isalpha() and token not in answer.token_ids[:place]
    )
    token_ids = answers[number].token_ids[: place + 1]
    for ends in ({"stop": (decode(token_ids[-1:]),)}, {"stop_token_ids": (token_ids[-1],)}):
        ((answer,),) = colocated.generate([asked[number]], replace(hot, **ends))
        assert (answer.finish_reason, answer.token_ids) == (FinishReason.STOP, token_ids)


def test_pause_and_continue(colocated: ColocatedVllm) -> None:
    """Prevents: tokens lost at a pause, or said by weights that did not say them."""
    stream = colocated.stream(requests(), DRAWN)
    for _ in range(5):
        stream._step()
    paused = {(one.request, one.sibling): one.completion for one in stream.pause()}
    assert {len(one.token_ids) for one in paused.values()} <= set(range(3, 6)) and len(paused) == 6
    version = colocated.policy.version
    update(colocated.policy, 1e-2)
    again = [
        Request(prompt_ids=one.prompt_ids, seeds=one.seeds, said=tuple(paused[number, sibling] for sibling in range(3)))
        for number, one in enumerate(requests())
    ]
    for (number, siblings) in enumerate(colocated.generate(again, DRAWN)):
        for sibling, answer in enumerate(siblings):
            before = paused[number, sibling]
            assert answer.token_ids[: len(before.token_ids)] == before.token_ids
            assert [tag for tag, _ in answer.versions] == [version, version + 1]


def test_training(folder: Path, tmp_path: Path) -> None:
    """Prevents: an engine that samples well and does not fit the loop. The mismatch that training measures is that of rounding."""
    small = {
        "model": {"name": str(folder), "device": "cpu", "method": "lora", "lora_rank": 4}, "data": {"limit": 40}, "evaluation": {"size": 0},
        "rollout": {"num_generations": 4, "max_completion_length": 12, "temperature": 0.8},
        "train": {"max_steps": 3, "prompts_per_step": 4, "learning_rate": 3e-3},
    }

    def variety(completion: str) -> float:
        return len(set(completion)) / 10

    trainer = assemble(load_config("arithmetic", small), tmp_path / "run", rewards=resolve([variety]))
    engine = ColocatedVllm(trainer.policy, max_concurrent=8, cache_bytes=2**26)
    trainer.collector = replace(trainer.collector, engine=engine)
    trainer.updater = replace(trainer.updater, engine_is_exact=False)
    trainer.train()
    engine.close()
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 3 and trainer.policy.version == 3
    assert all(row["sampling/k3"] < 1e-7 for row in metrics)


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes adapters and, in development mode, weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1",
    }
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "tiny", "--host",
        "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "8",
        "--logprobs-mode", "processed_logprobs", "--enable-prompt-tokens-details", "--enable-lora", "--max-lora-rank", "8",
        "--max-loras", "1",
    ]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=os.environ | settings, stdout=file, stderr=file, cwd=log.parent)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_server(folder: Path, url: str, tmp_path: Path, method: str) -> None:
    policy = load_tiny(folder, method=method, lora_rank=4)
    if policy.is_lora:
        stir_adapter(policy, scale=0.05)
    engine = ServedVllm(policy, url, shared_folder=tmp_path, timeout=300)
    if policy.is_lora:  # the server has had other weights pushed into it
        ServedVllm(load_tiny(folder), url, shared_folder=tmp_path, timeout=300).ready()
    pushes_and_answers(engine, policy)
    engine.close()
    assert list(tmp_path.iterdir()) == []
