"""vLLM as a server, played by an HTTP server in a thread that keeps its own weights."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, random_ids, stir_adapter
from vllm_fakes import FakeServer

from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.engine.vllm import ServedVllm
from heron.errors import EngineError
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.types import Completion, FinishReason

DRAWN = SamplingParams(max_tokens=8, temperature=0.8)


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy, scale=0.05)
    return policy


@pytest.fixture
def server(tiny_folder: Callable[[str], Path]) -> Iterator[FakeServer]:
    server = FakeServer(tiny_folder("qwen3"))
    yield server
    server.close()


def requests(siblings: int = 2) -> list[Request]:
    draw = random.Random(0)
    return [
        Request(prompt_ids=random_ids(draw, length), seeds=tuple(100 * number + sibling for sibling in range(siblings)))
        for number, length in enumerate((9, 14))
    ]


def update(policy: Policy, scale: float) -> None:
    with torch.no_grad():
        for _, weight in policy.trainable():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(policy.version)) * scale
    policy.version += 1


def gap(policy: Policy, answers: list[list[Completion]], temperature: float) -> float:
    """Between the log-probs of answers to `requests()` and the trainer's."""
    gaps = []
    for request, siblings in zip(requests(), answers, strict=True):
        for answer in siblings:
            row = [*request.prompt_ids, *answer.token_ids[:-1]]
            plan = packed_plan([range(len(row))], device=policy.device)
            with torch.no_grad():
                hidden = policy.hidden(torch.tensor([row]), torch.arange(len(row))[None], plan)[0, len(request.prompt_ids) - 1 :]
                logprobs, _ = policy.logprobs(hidden, torch.tensor(answer.token_ids), temperature=temperature)
            gaps.append(float((logprobs - torch.tensor(answer.logprobs)).abs().max()))
    return max(gaps)


def test_answers_come_from_the_newest_adapter(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: the base model's answers, or those of the adapter before; folders and adapters that pile up."""
    engine = ServedVllm(policy, server.url + "/v1/", shared_folder=tmp_path)
    for step in range(3):
        with engine.awake():
            answers = engine.generate(requests(), DRAWN)
        assert gap(policy, answers, 0.8) < 2e-5
        assert {answer.policy_version for siblings in answers for answer in siblings} == {step}
        update(policy, 0.02)
        engine.sync()
    assert engine.mismatch is not None and engine.mismatch < 2e-5
    assert len(set(server.weights.used_names)) == 3
    assert len(list(tmp_path.iterdir())) == 1 and len(server.weights.models) == 2
    engine.close()
    assert list(tmp_path.iterdir()) == [] and len(server.weights.models) == 1


@pytest.mark.parametrize("scale", [0.05, 1e-5])
def test_stale_push_is_found(policy: Policy, server: FakeServer, tmp_path: Path, scale: float) -> None:
    """Prevents: a server that says 200 and goes on with the adapter before."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    engine.ready()
    server.weights.is_stale = True
    update(policy, scale)
    with pytest.raises(EngineError, match="push was stale"):
        engine.ready()


def test_every_parameter_is_said_and_every_answer_is_a_request(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: the server's defaults, which it takes from the checkpoint (top_k 20, say); one seed for several answers."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path, api_key="secret")
    engine.ready()
    assert all(header["Authorization"] == "Bearer secret" for header in server.headers)
    defaults = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
    assert all({name: body[name] for name in defaults} == defaults for body in server.asked), "the probe, too"
    server.asked.clear()
    engine.generate(requests(), replace(DRAWN, top_k=5, top_p=0.9))
    assert sorted(body["seed"] for body in server.asked) == [0, 1, 100, 101]
    for body in server.asked:
        assert (body["top_k"], body["top_p"], body["temperature"], body["max_tokens"], body["n"]) == (5, 0.9, 0.8, 8, 1)
        assert body["stop_token_ids"] == sorted(policy.end_ids) and body["return_token_ids"]
        assert isinstance(body["prompt"][0], int)


def test_full_fine_tuning_is_refused_by_name(tiny_folder: Callable[[str], Path], server: FakeServer, tmp_path: Path) -> None:
    policy = load_tiny(tiny_folder("qwen3"))
    with pytest.raises(EngineError, match=r"model.method is full.*model.method=lora.*VLLM_SERVER_DEV_MODE"):
        ServedVllm(policy, server.url, shared_folder=tmp_path).ready()


def test_full_fine_tuning_in_development_mode(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: a tied head that the file of weights leaves out, so that the server keeps its old one."""
    policy = load_tiny(tiny_folder("qwen3"))
    server = FakeServer(tiny_folder("qwen3"), is_dev=True)
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    engine.ready()
    update(policy, 0.05)
    assert gap(policy, engine.generate(requests(), DRAWN), 0.8) < 2e-5
    assert list(tmp_path.iterdir()) == []
    server.weights.drops = "lm_head"
    update(policy, 1e-4)
    with pytest.raises(EngineError, match="push was partial"):
        engine.ready()
    server.close()


def test_server_without_adapters_is_named(policy: Policy, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    server = FakeServer(tiny_folder("qwen3"), takes_adapters=False)
    with pytest.raises(EngineError, match=r"did not load the adapter.*404.*--enable-lora.*VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        ServedVllm(policy, server.url, shared_folder=tmp_path).ready()
    assert list(tmp_path.iterdir()) == []
    server.close()


def test_raw_logprobs_are_found(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: vLLM's default, log-probs before temperature and filters."""
    server.weights.reports_raw = True
    with pytest.raises(EngineError, match="--logprobs-mode processed_logprobs"):
        ServedVllm(policy, server.url, shared_folder=tmp_path).ready()


@pytest.mark.parametrize(("path", "awaited"), [
    ("/v1/load_lora_adapter", "the loading of adapter heron-"), ("/v1/completions", "the probe of its weights"),
])
def test_every_wait_ends_and_says_what_for(
    policy: Policy, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, awaited: str
) -> None:
    """Prevents: a run that stands still without a word."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    call = engine.client.call

    def impatient(method: str, asked: str, body: Any = None, **rest: Any) -> Any:
        engine.client.timeout = 0.2 if asked == path else 60.0
        return call(method, asked, body, **rest)

    monkeypatch.setattr(engine.client, "call", impatient)
    server.hangs_on = path
    with pytest.raises(EngineError, match=rf"has not sent {awaited}.*within 0.2 seconds"):
        engine.ready()


def test_an_answer_that_does_not_come_is_an_error(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: a stream that waits for ever, and threads that wait on when it has ended."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    engine.ready()
    engine.client.timeout, server.hangs_on = 0.3, "/v1/completions"
    with pytest.raises(EngineError, match=r"within 0.3 seconds"):
        engine.generate(requests(), DRAWN)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heron-vllm")]


def test_no_server_is_an_error(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"could not be reached for its list of models.*Is the server running"):
        ServedVllm(policy, "http://127.0.0.1:9", shared_folder=tmp_path).ready()
    with pytest.raises(EngineError, match="not the address of a server"):
        ServedVllm(policy, "127.0.0.1:9", shared_folder=tmp_path)


def test_pause_hangs_up_and_nothing_is_lost(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: a pause that waits for the longest answer, and answers that were handed out twice or never."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path, max_concurrent=2)
    stream = engine.stream(requests(), DRAWN)
    server.answers_left = 1
    first = next(stream)
    began = time.monotonic()
    rest = stream.pause()
    assert time.monotonic() - began < 5
    assert {(one.request, one.sibling) for one in (first, *rest)} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {one.completion.finish_reason for one in rest} == {FinishReason.PAUSED}
    assert {one.completion.token_ids for one in rest} == {()} and list(stream) == []
    server.answers_left = None
    assert len(engine.generate(requests(), DRAWN)) == 2


def test_continued_answers_count_what_was_said(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: a limit that counts anew, random numbers of the beginning used again, and tokens said twice."""
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    endless = replace(DRAWN, ignore_end=True)  # or a first token that ends an answer would leave nothing to continue
    begun = engine.generate(requests(), replace(endless, max_tokens=3))
    paused = [[replace(answer, finish_reason=FinishReason.PAUSED) for answer in siblings] for siblings in begun]
    update(policy, 0.02)
    server.asked.clear()
    again = [replace(request, said=tuple(said)) for request, said in zip(requests(), paused, strict=True)]
    answers = engine.generate(again, endless)
    sent = [body for body in server.asked if body["max_tokens"] != 1]
    assert {body["max_tokens"] for body in sent} == {5} and not {body["seed"] for body in sent} & {0, 1, 100, 101}
    for siblings, before in zip(answers, begun, strict=True):
        for answer, said in zip(siblings, before, strict=True):
            assert answer.token_ids[:3] == said.token_ids and len(answer.token_ids) == 8
            assert answer.versions == ((0, 3), (1, 5))


def test_progress_counts_answers(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    engine = ServedVllm(policy, server.url, shared_folder=tmp_path)
    engine.generate(requests(), DRAWN, on_progress=lambda *counts: heard.append(counts))
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_weights_that_change_under_a_stream_are_an_error(policy: Policy, server: FakeServer, tmp_path: Path) -> None:
    """Prevents: answers tagged with a version that did not say them."""
    stream = ServedVllm(policy, server.url, shared_folder=tmp_path).stream(requests(), DRAWN)
    next(stream)
    update(policy, 0.01)
    with pytest.raises(EngineError, match="version 0 to 1"):
        next(stream)
    stream.close()
