"""The native engine on little room: pages of four tokens, prompts longer than a chunk, more prompts than rows, rows that must give way.

Whatever runs beside a completion, and however often it was preempted, paused or forked, it says what it says alone.
"""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import KINDS, load_tiny, random_ids, save_tiny, stir_adapter
from torch import Tensor

from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native.cache import bytes_per_token
from heron.engine.native.engine import Session
from heron.engine.native.prefill import PrefillPlan
from heron.engine.protocol import Finished, in_order
from heron.errors import EngineError
from heron.models import Policy
from heron.objective.kl import k3
from heron.training.batch import pack
from heron.training.samples import Sample
from heron.types import Completion, FinishReason

LENGTHS = (9, 1, 14, 23, 3, 4, 8, 17, 5, 12)
NEW = 10
TINY: dict[str, Any] = {"page_size": 4, "chunk_tokens": 5, "max_concurrent": 3}
Answers = list[list[Completion]]


def requests(siblings: int = 1, lengths: Sequence[int] = LENGTHS, common: int = 0) -> list[Request]:
    draw = random.Random(0)
    system = random_ids(draw, common)
    return [Request(prompt_ids=system + random_ids(draw, length), seeds=tuple(range(1000 * number, 1000 * number + siblings)))
            for number, length in enumerate(lengths)]


def tight(policy: Policy, asked: Sequence[Request], max_tokens: int = NEW, *, spare: int = 3, **settings: Any) -> NativeEngine:
    """An engine with the fewest pages that the longest of these needs, and a few to spare."""
    settings = TINY | settings
    longest = max(len(request.prompt_ids) for request in asked) + max_tokens
    pages = -(-longest // settings["page_size"]) + 1 + spare
    return NativeEngine(policy, cache_bytes=pages * settings["page_size"] * bytes_per_token(policy), **settings)


def alone(policy: Policy, asked: Sequence[Request], params: SamplingParams) -> Answers:
    """Every completion by itself, with room for everything."""
    return [[NativeEngine(policy).generate([Request(prompt_ids=request.prompt_ids, seeds=(seed,))], params)[0][0] for seed in request.seeds]
            for request in asked]


def same(answers: Answers, wanted: Answers, *, temperature: float = 1.0) -> bool:
    """Equal tokens and, up to rounding, log-probs and entropies."""
    rounding = 1e-5 / temperature
    pairs = [pair for one, other in zip(answers, wanted, strict=True) for pair in zip(one, other, strict=True)]
    return all(
        one.token_ids == other.token_ids and one.finish_reason is other.finish_reason
        and list(one.logprobs) == pytest.approx(list(other.logprobs), abs=rounding)
        and list(one.entropies) == pytest.approx(list(other.entropies), abs=10 * rounding)
        for one, other in pairs
    )


def trainer_logprobs(policy: Policy, asked: Sequence[Request], answers: Answers, temperature: float) -> tuple[Tensor, Tensor]:
    """Of every token that was said: the trainer's log-prob, and the sampler's."""
    groups = [
        [Sample(prompt_ids=request.prompt_ids, token_ids=a.token_ids, is_trained=(True,) * len(a.token_ids), sampler_logprobs=a.logprobs,
                advantage=1.0, weight=1.0, entropy_weight=0.0, keep=(True,) * len(a.token_ids)) for a in siblings]
        for request, siblings in zip(asked, answers, strict=True)
    ]
    both = []
    for batch in pack(groups, budget=100, device=policy.device):
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        both.append((policy.logprobs(hidden[0, batch.where], batch.targets, temperature=temperature)[0].detach(), batch.sampler_logprobs))
    trained, sampled = (torch.cat(part).double() for part in zip(*both, strict=True))
    return trained, sampled


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    """Many answers end early, so that rows come and go."""
    policy = load_tiny(tiny_folder("qwen3"))
    policy.end_ids = frozenset({*policy.end_ids, *range(0, 250, 12)})
    return policy


@pytest.fixture
def computed(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompt tokens of every forward pass over prompts."""
    counts: list[int] = []
    hidden = policy.hidden

    def watch(token_ids: Tensor, positions: Tensor, plan: Any) -> Tensor:
        counts.extend([token_ids.numel()] * isinstance(plan, PrefillPlan))
        return hidden(token_ids, positions, plan)

    monkeypatch.setattr(policy, "hidden", watch)
    return counts


# Against transformers and the trainer


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_transformers(tiny_folder: Callable[[str], Path], kind: str) -> None:
    """Prevents: keys that go to, or are read from, another place than theirs, in any family: with windows, caps, chunks and preemption."""
    from transformers import AutoModelForCausalLM

    policy, asked = load_tiny(tiny_folder(kind)), requests()
    stream = tight(policy, asked).stream(asked, SamplingParams(max_tokens=NEW, temperature=0))
    answers = in_order(asked, stream)
    assert stream.scheduler.preemptions > 0
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(kind), attn_implementation="eager")
    for request, (answer,) in zip(asked, answers, strict=True):
        ids = torch.tensor([request.prompt_ids])
        wanted = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                                eos_token_id=sorted(policy.end_ids), pad_token_id=0)
        assert answer.token_ids == tuple(wanted[0, len(request.prompt_ids) :].tolist())


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_are_the_trainers(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str, method: str) -> None:
    """Prevents: a ratio that is not 1 on-policy. k3 is the mismatch that the trainer logs."""
    monkeypatch.setattr("heron.engine.native.prefill.QUERIES", 3)  # fewer than a chunk
    torch.manual_seed(0)  # of the adapter
    policy, asked = load_tiny(tiny_folder(kind), method=method, lora_rank=4), requests(siblings=3)
    if method == "lora":
        stir_adapter(policy, scale=0.05)
    stream = tight(policy, asked, max_concurrent=7).stream(asked, SamplingParams(max_tokens=NEW, temperature=0.7))
    answers = in_order(asked, stream)
    assert stream.scheduler.preemptions > 0
    trained, sampled = trainer_logprobs(policy, asked, answers, 0.7)
    assert float((trained - sampled).abs().max()) < 1e-5
    assert float(k3(sampled, trained).mean()) < 1e-7


@pytest.mark.parametrize(("spread", "most"), [(0.02, 1e-2), (0.15, 6e-2)])
@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "mistral-window"])
def test_logprobs_are_the_trainers_in_bfloat16(tmp_path: Path, kind: str, spread: float, most: float) -> None:
    """Weights as a model is begun with, and wide ones, whose logits of 4 and more are themselves told apart by 0.03 at most.

    Prevents: a cache, mask or sum in a type that training does not use there.
    """
    folder = save_tiny(kind, tmp_path, dtype=torch.bfloat16, initializer_range=spread)
    policy, asked = load_tiny(folder, dtype="bfloat16"), requests(siblings=3)
    assert policy.dtype is torch.bfloat16
    stream = tight(policy, asked, max_concurrent=7).stream(asked, SamplingParams(max_tokens=NEW))
    trained, sampled = trainer_logprobs(policy, asked, in_order(asked, stream), 1.0)
    assert stream.scheduler.preemptions > 0
    assert float((trained - sampled).abs().max()) < most


# Against itself, alone


@pytest.mark.parametrize(("max_concurrent", "spare"), [(3, 0), (7, 2), (12, 6)])
def test_sampled_on_little_room(policy: Policy, max_concurrent: int, spare: int) -> None:
    """Prevents: tokens lost, doubled or drawn again with other random numbers when a row gives way and is computed again."""
    asked, params = requests(siblings=3), SamplingParams(max_tokens=24)
    stream = tight(policy, asked, 24, spare=spare, max_concurrent=max_concurrent).stream(asked, params)
    answers = in_order(asked, stream)
    assert stream.scheduler.preemptions > 0 or max_concurrent == 3
    assert same(answers, alone(policy, asked, params))
    assert stream.scheduler.pages.is_idle


@pytest.mark.parametrize("settings", [{}, {"page_size": 3}, {"page_size": 1}, {"page_size": 32, "chunk_tokens": 4096}])
@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_siblings_that_fork(tiny_folder: Callable[[str], Path], kind: str, settings: dict[str, int]) -> None:
    """At a low temperature siblings stay together for long, and part one after the other.

    Prevents: a fork that writes to its sibling's page, reads a page that was moved, or forgets what was said together.
    """
    policy, asked = load_tiny(tiny_folder(kind)), requests(siblings=8, lengths=(7, 12))
    params = SamplingParams(max_tokens=30, temperature=0.06)
    rows: list[int] = []
    stream = NativeEngine(policy, **TINY | {"max_concurrent": 16} | settings).stream(
        asked, params, on_token=lambda *_: rows.append(len(stream.scheduler.running))
    )
    answers = in_order(asked, stream)
    assert len(set(rows)) > 3, "they part at different places"
    assert sum(rows) < 0.75 * sum(len(answer.token_ids) for siblings in answers for answer in siblings), "they stay together for a while"
    assert same(answers, alone(policy, asked, params), temperature=0.06)


def test_forks_on_little_room(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a fork that finds no page and is lost, or goes on without what was said together."""
    policy, asked = load_tiny(tiny_folder("qwen3")), requests(siblings=6, lengths=(9, 1, 14, 5))
    params = SamplingParams(max_tokens=20, temperature=0.06)
    stream = tight(policy, asked, 20, spare=1, max_concurrent=12).stream(asked, params)
    answers = in_order(asked, stream)
    assert stream.scheduler.preemptions > 0
    assert same(answers, alone(policy, asked, params), temperature=0.06)


def test_requests_without_seeds_and_equal_requests(policy: Policy) -> None:
    """Prevents: completions handed to the wrong request where one asks for nothing or asks the same as another."""
    first, second = requests(siblings=2, lengths=(9, 14))
    nothing = Request(prompt_ids=first.prompt_ids, seeds=())
    asked, params = [nothing, first, second, nothing, first], SamplingParams(max_tokens=NEW)
    answers = tight(policy, asked).generate(asked, params)
    assert [len(siblings) for siblings in answers] == [0, 2, 2, 0, 2]
    assert answers[1] == answers[4] or same([answers[1]], [answers[4]])
    assert same(answers[1:3], alone(policy, [first, second], params))


# Pages that are found again


def test_common_beginning_is_computed_once(policy: Policy, computed: list[int]) -> None:
    """Prevents: a system prompt computed for every wave. Its last, partly filled page is computed with each."""
    asked, params = requests(lengths=(3,) * 9, common=41), SamplingParams(max_tokens=4)
    answers = NativeEngine(policy, page_size=4, max_concurrent=3).generate(asked, params)
    assert sum(computed) <= 41 + 9 * (3 + 1)
    assert same(answers, alone(policy, asked, params))


def next_turns(asked: Sequence[Request], answers: Answers) -> list[Request]:
    """Every conversation goes on after its first answer."""
    return [Request(prompt_ids=request.prompt_ids + answer.token_ids + (5, 6, 7), seeds=request.seeds)
            for request, (answer,) in zip(asked, answers, strict=True)]


@pytest.mark.parametrize("lengths", [(22,), (22, 30, 17, 22)])
def test_next_turn_finds_its_beginning(policy: Policy, computed: list[int], lengths: tuple[int, ...]) -> None:
    """Prevents: a conversation computed from its first token at every turn, and pages of one taken for those of another."""
    asked, params = requests(lengths=lengths), SamplingParams(max_tokens=6)
    engine = NativeEngine(policy, page_size=4, max_concurrent=4)
    with engine.awake():
        engine.generate(requests(lengths=(60,)), SamplingParams(max_tokens=120))  # leaves a cache of more than enough pages
        turns = next_turns(asked, engine.generate(asked, params))
        computed.clear()
        again = engine.generate(turns, params)
    whole = sum(len(turn.prompt_ids) for turn in turns)
    assert sum(computed) == whole - sum(length // 4 * 4 for length in lengths)
    assert same(again, alone(policy, turns, params))


@pytest.mark.parametrize("forgets", ["version", "sleep", "never awake"])
def test_nothing_is_found_where_nothing_may_be(policy: Policy, computed: list[int], forgets: str) -> None:
    """Prevents: keys of old weights under new ones."""
    asked, params = requests(lengths=(22, 30)), SamplingParams(max_tokens=6, temperature=0)
    engine = NativeEngine(policy, page_size=4)

    def change() -> None:
        with torch.no_grad():
            for _, weight in policy.trainable():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
        policy.version += 1

    if forgets == "version":
        with engine.awake():
            engine.generate(asked, params)
            change()
            computed.clear()
            again = engine.generate(asked, params)
    else:
        for _ in range(2):
            computed.clear()
            if forgets == "sleep":
                with engine.awake():
                    again = engine.generate(asked, params)
            else:
                again = engine.generate(asked, params)
    assert sum(computed) == 52
    assert same(again, alone(policy, asked, params))
    assert {answer.policy_version for (answer,) in again} == {policy.version}


def test_cache_is_freed_on_leaving(policy: Policy) -> None:
    """Prevents: a cache that takes the backward pass's memory."""
    engine, params = NativeEngine(policy), SamplingParams(max_tokens=2)
    with engine.awake():
        stream = engine.stream(requests(), params)
        list(stream)
        store = weakref.ref(stream.runner.store)
        del stream
        gc.collect()
        assert store() is not None, "kept while awake"
    gc.collect()
    assert store() is None


# Streams


def test_in_the_order_of_finishing(policy: Policy) -> None:
    """Prevents: a stream that waits for the whole batch, so that scoring cannot overlap with sampling."""
    asked, steps = requests(siblings=4, lengths=(5, 9, 12)), list[tuple[int, int]]()
    stream = NativeEngine(policy).stream(asked, SamplingParams(max_tokens=40), on_token=lambda *counts: steps.append(counts))
    assert steps == []
    lengths = []
    for finished in stream:
        lengths.append(len(finished.completion.token_ids))
        assert len(steps) == lengths[-1], "no step more than the completion needed"
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    assert steps[-1] == (12, 12)
    assert list(stream) == []


def pieces(engine: NativeEngine, asked: Sequence[Request], params: SamplingParams, take: int) -> Iterator[list[Finished]]:
    """What was said so far, whenever the stream was paused after so many tokens of everything."""
    said: list[list[Completion | None]] = [[None] * len(request.seeds) for request in asked]
    while True:
        begun = [Request(prompt_ids=request.prompt_ids, seeds=request.seeds, said=tuple(before))
                 for request, before in zip(asked, said, strict=True)]
        # ended ones are not asked for again
        keep = [[n for n, one in enumerate(before) if one is None or one.finish_reason is FinishReason.PAUSED] for before in said]
        open_ones = [Request(prompt_ids=r.prompt_ids, seeds=tuple(r.seeds[n] for n in ns), said=tuple(r.said[n] for n in ns))
                     for r, ns in zip(begun, keep, strict=True)]
        stream = engine.stream(open_ones, params)
        for _ in range(take):
            if not stream.scheduler.is_done:
                with engine.policy.sampling():
                    stream.step()
        ended = stream.pause()
        for one in ended:
            said[one.request][keep[one.request][one.sibling]] = one.completion
        everything = [Finished(request=r, sibling=s, completion=one) for r, row in enumerate(said) for s, one in enumerate(row) if one]
        yield everything
        if all(one.completion.finish_reason is not FinishReason.PAUSED for one in everything):
            return


@pytest.mark.parametrize("take", [1, 3, 6])
@pytest.mark.parametrize("is_awake", [False, True])
def test_paused_and_continued_is_uninterrupted(policy: Policy, take: int, is_awake: bool) -> None:
    """Prevents: random numbers that begin again, tokens drawn twice, log-probs of the first part lost."""
    asked, params = requests(siblings=3, lengths=(9, 1, 14, 5)), SamplingParams(max_tokens=NEW)
    engine = NativeEngine(policy, page_size=4, chunk_tokens=30, max_concurrent=8)
    wanted = alone(policy, asked, params)
    with engine.awake() if is_awake else torch.no_grad():
        parts = list(pieces(engine, asked, params, take))
    assert len(parts) > 2
    assert same(in_order(asked, iter(parts[-1])), wanted)
    for part in parts:
        for one in part:
            whole = wanted[one.request][one.sibling].token_ids
            assert one.completion.token_ids == whole[: len(one.completion.token_ids)]
            assert (one.completion.finish_reason is FinishReason.PAUSED) == (len(one.completion.token_ids) < len(whole))


def test_pause_returns_everything_once(policy: Policy) -> None:
    """Prevents: completions lost between what was streamed and what is paused: those that wait, and those that ended in one step."""
    asked = requests(siblings=3)
    stream = NativeEngine(policy, **TINY | {"max_concurrent": 7}).stream(asked, SamplingParams(max_tokens=NEW))
    got = [next(stream) for _ in range(4)]
    rest = stream.pause()
    assert sorted((one.request, one.sibling) for one in got + rest) == [(r, s) for r in range(len(asked)) for s in range(3)]
    assert any(not one.completion.token_ids for one in rest)
    assert stream.scheduler.pages.is_idle
    assert stream.pause() == []
    assert list(stream) == []


def test_longer_limit_goes_on_as_it_would_have(policy: Policy) -> None:
    """Prevents: random numbers that depend on how many there are."""
    policy.end_ids = frozenset()
    (asked,) = requests(siblings=3, lengths=(9,))
    (short,) = NativeEngine(policy).generate([asked], SamplingParams(max_tokens=5))
    longer = Request(prompt_ids=asked.prompt_ids, seeds=asked.seeds, said=tuple(short))
    answers = NativeEngine(policy, **TINY).generate([longer], SamplingParams(max_tokens=33))
    assert same(answers, alone(policy, [asked], SamplingParams(max_tokens=33)))


def test_new_weights_in_the_middle(policy: Policy) -> None:
    """Prevents: a completion of two policies that says it is of one; continued on purpose, it says which said how much."""
    policy.end_ids = frozenset()
    asked, params = requests(siblings=2, lengths=(9, 12)), SamplingParams(max_tokens=NEW)
    stream = NativeEngine(policy).stream(asked, params)
    for _ in range(4):
        with policy.sampling():
            stream.step()
    policy.version = 8
    with pytest.raises(EngineError, match=r"version 0 to 8.*Pause the stream"):
        next(stream)
    said: list[list[Completion | None]] = [[None, None], [None, None]]
    for one in stream.pause():
        said[one.request][one.sibling] = one.completion
    again = [Request(prompt_ids=r.prompt_ids, seeds=r.seeds, said=tuple(before)) for r, before in zip(asked, said, strict=True)]
    for answer in (answer for siblings in NativeEngine(policy).generate(again, params) for answer in siblings):
        assert answer.versions == ((0, 4), (8, 6))
        assert answer.policy_version == 0


def test_ended_stream_stays_ended(policy: Policy) -> None:
    """Prevents: an error about new weights from a stream that has nothing more to say."""
    stream = NativeEngine(policy).stream(requests(), SamplingParams(max_tokens=2))
    assert len(list(stream)) == len(LENGTHS)
    policy.version += 1
    assert list(stream) == []


def test_abandoned_stream(policy: Policy) -> None:
    """Prevents: pages that an abandoned stream still holds, taken from or given to the next one."""
    asked, params = requests(siblings=2), SamplingParams(max_tokens=NEW)
    engine = tight(policy, asked)
    engine.cache_bytes *= 3  # of which the abandoned one keeps what it may need
    wanted = alone(policy, asked, params)
    with engine.awake():
        left = engine.stream(asked, params)
        next(left)
        assert same(engine.generate(asked, params), wanted)
        assert same(engine.generate(asked, params), wanted)
        assert not left.scheduler.pages.is_idle


def test_two_streams_at_once(policy: Policy) -> None:
    """Prevents: two streams that were opened before either began, and count the same pages as theirs."""
    asked, params = requests(siblings=2), SamplingParams(max_tokens=NEW)
    engine = tight(policy, asked)
    engine.cache_bytes *= 3  # the first takes what it can use, and leaves the second enough for one
    wanted = alone(policy, asked, params)
    with engine.awake():
        streams: list[Session] = [engine.stream(asked, params), engine.stream(asked, params)]
        got: list[list[Finished]] = [[], []]
        for _ in range(2 * len(asked)):
            for stream, its in zip(streams, got, strict=True):
                its.append(next(stream))
    for its in got:
        assert same(in_order(asked, iter(its)), wanted)


# Memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_what_was_allowed(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    """Prevents: a budget that is counted by another formula than the tensors are made by."""
    policy, asked = load_tiny(save_tiny(kind, tmp_path, dtype=dtype), dtype=str(dtype).removeprefix("torch.")), requests()
    engine = tight(policy, asked, 2)
    stream = engine.stream(asked, SamplingParams(max_tokens=2))
    next(stream)
    store = stream.runner.store
    assert store.bytes_per_page == bytes_per_token(policy) * 4
    assert sum(x.untyped_storage().nbytes() for x in (*store.keys.values(), *store.values.values())) == engine.cache_bytes


def test_too_little_room_is_refused(policy: Policy) -> None:
    """Prevents: a run that stops, or waits for ever, at its first long prompt."""
    asked, params = requests(), SamplingParams(max_tokens=NEW)
    enough = tight(policy, asked, spare=0)
    assert len(list(enough.stream(asked, params))) == len(asked)
    assert enough.cache_bytes is not None
    with pytest.raises(EngineError, match=r"10,240 bytes.*there are 9,216.*cache_gib"):
        NativeEngine(policy, **TINY, cache_bytes=enough.cache_bytes - 1).generate(asked, params)


def test_a_quarter_of_the_memory_of_transformers(tmp_path: Path) -> None:
    """A group of 8 behind a prompt of 512 tokens. Prevents: a copy of the prompt's keys for every sibling."""
    from transformers import DynamicCache

    policy = load_tiny(save_tiny("qwen3", tmp_path, max_position_embeddings=1024))
    policy.end_ids = frozenset()
    asked, used = requests(siblings=8, lengths=(512,)), list[int]()
    stream = NativeEngine(policy).stream(
        asked, SamplingParams(max_tokens=64), on_token=lambda *_: used.append(stream.scheduler.pages.count - stream.scheduler.pages.free)
    )
    list(stream)
    cache = DynamicCache()
    key = torch.zeros(8, 2, 512 + 64 - 1, 8)
    for layer in range(2):
        cache.update(key, key, layer)
    theirs = sum(x.numel() * x.element_size() for layer in cache.layers for x in (layer.keys, layer.values))
    assert max(used) * stream.runner.store.bytes_per_page <= theirs / 4
