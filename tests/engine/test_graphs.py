"""Captured decoding without a GPU: torch's tracer stands for CUDA graphs, the naive reference for the kernel.

What the tracer records are operations on the very tensors that it met, as a CUDA graph does: a replay runs no Python of the model. Where
that does not matter the forward pass is its own replay, which is faster to test.
"""

from __future__ import annotations

import gc
import importlib.util
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from naive_paged import naive_paged_decode
from tinymodels import KINDS, load_tiny, random_ids, stir_adapter
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native import cache, graphs, runner
from heron.engine.native.graphs import Bucket, CapturedDecode, CudaCapture, Forward, addresses, bucket_of, captured_decode
from heron.engine.native.sequence import Branch
from heron.engine.native.sequence import Sequence as Completing
from heron.engine.native.store import Store
from heron.models import Policy
from heron.types import Completion

pytestmark = pytest.mark.filterwarnings("error:Decoding")  # nothing falls back unnoticed
NEW = 16
GREEDY = SamplingParams(max_tokens=NEW, temperature=0)
PAGE = 4


def traced(forward: Forward) -> Forward:
    """A capture: what was recorded, with everything that is no tensor as it was. transformers asks whether a capture goes on, and then
    reads nothing from the device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.utils.import_utils.is_cuda_stream_capturing", lambda: True)
        return make_fx(forward)()


class Captured:
    """An engine on a CPU that decodes as on a GPU, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoders: list[CapturedDecode] = []
        self.captures = 0
        self.rows: list[int] = []
        self.watch: Callable[[CapturedDecode, Sequence[Branch]], Any] = lambda decoder, branches: None
        self.forward: Callable[[Forward], Forward] = lambda forward: forward
        monkeypatch.setattr(cache, "Store", lambda pages, size, **_: Store(pages, size, has_scratch=True))
        monkeypatch.setattr(runner, "captured_decode", self.decoder)
        hidden = CapturedDecode.hidden

        def watched(decoder: CapturedDecode, branches: Sequence[Branch]) -> Tensor:
            before = self.watch(decoder, branches)
            self.rows.append(len(branches))
            output = hidden(decoder, branches)
            if before is not None:
                before()
            return output

        monkeypatch.setattr(CapturedDecode, "hidden", watched)

    def decoder(self, policy: Policy, store: Store) -> CapturedDecode:
        if store.captured is None:
            store.captured = CapturedDecode(policy, store, kernel=naive_paged_decode, capture=self.capture)
            self.decoders.append(store.captured)
        return store.captured

    def capture(self, forward: Forward) -> Forward:
        self.captures += 1
        return self.forward(forward)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captured:
    return Captured(monkeypatch)


def requests(siblings: int = 3, lengths: Sequence[int] = (9, 1, 14, 8), seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(prompt_ids=random_ids(draw, length), seeds=tuple(range(100 * number, 100 * number + siblings)))
        for number, length in enumerate(lengths)
    ]


def plain(policy: Policy, asked: Sequence[Request], params: SamplingParams, **settings: Any) -> list[list[Completion]]:
    """The engine as it is on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "captured_decode", lambda policy, store: None)
        return NativeEngine(policy, page_size=PAGE, **settings).generate(asked, params)


def tokens(answers: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[answer.token_ids for answer in siblings] for siblings in answers]


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    """Many completions end early, so that rows come and go."""
    made = load_tiny(tiny_folder("qwen3"))
    made.end_ids = frozenset({*made.end_ids, *range(0, 250, 12)})
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_plain_path(tiny_folder: Callable[[str], Path], captured: Captured, kind: str) -> None:
    """Prevents: windows, caps and positions that are frozen at the first token; keys written one place off. Windows are 7, rows to 30."""
    policy = load_tiny(tiny_folder(kind))
    captured.forward = traced
    for params, asked in ((GREEDY, requests(siblings=1)), (SamplingParams(max_tokens=NEW), requests(siblings=2, lengths=(9,)))):
        answers, expected = NativeEngine(policy, page_size=PAGE).generate(asked, params), plain(policy, asked, params)
        assert tokens(answers) == tokens(expected)
        logprobs, wanted = (torch.tensor([p for siblings in every for a in siblings for p in a.logprobs]) for every in (answers, expected))
        torch.testing.assert_close(logprobs, wanted, rtol=1e-4, atol=1e-5)
    assert captured.captures >= 2


def test_adapter(tiny_folder: Callable[[str], Path], captured: Captured) -> None:
    """Prevents: a capture of the base model alone."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    captured.forward = traced
    assert tokens(NativeEngine(policy, page_size=PAGE).generate(requests(), GREEDY)) == tokens(plain(policy, requests(), GREEDY))


def test_rows_come_and_go(policy: Policy, captured: Captured) -> None:
    """Prevents: one capture for all sizes, a capture in each step, and rows that are mixed up where a bucket is met again."""
    params = SamplingParams(max_tokens=30)
    captured.forward = traced
    answers = NativeEngine(policy, page_size=PAGE, max_concurrent=11).generate(requests(siblings=5), params)
    assert tokens(answers) == tokens(plain(policy, requests(siblings=5), params, max_concurrent=11))
    (decoder,) = captured.decoders
    assert set(decoder.buckets) == {bucket_of(rows) for rows in captured.rows} > {1, 8}
    assert captured.captures == len(decoder.buckets) < len(captured.rows)


def test_a_small_cache(policy: Policy, captured: Captured) -> None:
    """Prevents: tables that are not filled anew when a row has given up its pages, or pages were moved together."""
    params = SamplingParams(max_tokens=30)
    budget = 16 * PAGE * cache.bytes_per_token(policy)
    answers = NativeEngine(policy, page_size=PAGE, cache_bytes=budget).generate(requests(siblings=5), params)
    assert tokens(answers) == tokens(plain(policy, requests(siblings=5), params))


def test_rows_of_nobody_touch_no_page(policy: Policy, captured: Captured) -> None:
    """Prevents: rows that have ended, or pad a bucket, and write into pages that are somebody's by now."""
    padded = 0

    def watch(decoder: CapturedDecode, branches: Sequence[Branch]) -> Callable[[], None]:
        before = {layer: keys.clone() for layer, keys in decoder._keys.items()}
        written = {branch.own[-1] for branch in branches}

        def check() -> None:
            nonlocal padded
            padded += bucket_of(len(branches)) - len(branches)
            for layer, keys in decoder._keys.items():
                changed = (keys != before[layer]).flatten(1).any(1).nonzero()[:, 0].tolist()
                assert written <= set(changed) <= written | {decoder._scratch}
                assert len(keys) == decoder._scratch + 1

        return check

    captured.watch = watch
    NativeEngine(policy, page_size=PAGE, max_concurrent=11).generate(requests(siblings=5), SamplingParams(max_tokens=20))
    assert padded > 10


def test_captures_live_as_long_as_the_cache(policy: Policy, captured: Captured) -> None:
    """Prevents: captures in every turn of a conversation; and keys that a capture keeps in memory while the model trains."""
    engine = NativeEngine(policy, page_size=PAGE)
    gc.disable()
    try:
        with engine.awake():
            engine.generate(requests(), GREEDY)
            first = captured.captures
            engine.generate(requests(), GREEDY)
            assert captured.captures == first > 0
            keys = weakref.ref(captured.decoders.pop()._keys[0])
            assert keys() is not None
        assert keys() is None, "freed at once, without a collection of garbage"
    finally:
        gc.enable()


def test_weights_changed_in_place_are_seen(policy: Policy, captured: Captured) -> None:
    """Prevents: a replay of the weights as they were at the capture."""
    engine = NativeEngine(policy, page_size=PAGE)
    captured.forward = traced
    others = requests(seed=1)  # the cache would find the first ones as the old weights saw them
    with engine.awake():
        engine.generate(requests(), GREEDY)
        stale = tokens(plain(policy, others, GREEDY))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in policy.model.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
        answers = tokens(engine.generate(others, GREEDY))
    (decoder,) = captured.decoders
    assert captured.captures == len(decoder.buckets)
    assert stale != answers == tokens(plain(policy, others, GREEDY))


def test_a_model_that_cannot_be_captured(policy: Policy, captured: Captured) -> None:
    """Prevents: a family that waits for the device on its way, and cannot be sampled from at all."""

    def refuse(forward: Forward) -> Forward:
        raise RuntimeError("operation not permitted when stream is capturing")

    captured.forward = refuse
    params = SamplingParams(max_tokens=NEW)
    with pytest.warns(UserWarning, match="without CUDA graphs.*not permitted") as told:
        answers = NativeEngine(policy, page_size=PAGE).generate(requests(), params)
    (decoder,) = captured.decoders
    assert len(decoder.buckets) > 1 == captured.captures == len(told), "it is tried once"
    assert tokens(answers) == tokens(plain(policy, requests(), params))


class TestChoice:
    """Who decodes."""

    @pytest.fixture
    def gpu(self, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """A policy that says it is on a GPU, where nothing is really captured."""
        monkeypatch.setattr(graphs, "CudaCapture", lambda device: lambda forward: forward)
        return SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16, model=policy.model, source="here")

    def test_a_cpu_does_not_capture(self, policy: Policy) -> None:
        """Prevents: the CPU's own way lost."""
        assert captured_decode(policy, Store(4, PAGE)) is None

    def test_without_triton_it_is_said(self, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a crash, or a slow engine that nobody hears of."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.warns(UserWarning, match="triton is not installed"):
            assert captured_decode(gpu, Store(4, PAGE, has_scratch=True)) is None

    def test_float64_is_plain(self, gpu: Any) -> None:
        """Prevents: a type that the kernel does not multiply."""
        gpu.dtype = torch.float64
        assert captured_decode(gpu, Store(4, PAGE, has_scratch=True)) is None

    def test_replaced_weights_are_captured_anew(self, gpu: Any) -> None:
        """Prevents: a replay that reads freed memory after `load_state_dict(assign=True)`."""
        pytest.importorskip("triton", reason="captures need its kernel")
        store = Store(4, PAGE, has_scratch=True)
        first = captured_decode(gpu, store)
        assert first is not None
        with torch.no_grad():
            next(gpu.model.parameters()).mul_(0.5)
        assert captured_decode(gpu, store) is first
        gpu.model.load_state_dict({name: weight.clone() for name, weight in gpu.model.state_dict().items()}, assign=True)
        assert captured_decode(gpu, store) is not first

    def test_addresses_cover_buffers(self, policy: Policy) -> None:
        """Prevents: rotary frequencies that were moved and are read where they lay."""
        before = addresses(policy)
        rotary = policy.model.get_decoder().rotary_emb
        rotary.inv_freq = rotary.inv_freq.clone()
        assert addresses(policy) != before


def test_buckets() -> None:
    """Prevents: a capture for each number of rows, and rows for which there is no bucket."""
    assert [bucket_of(rows) for rows in (1, 2, 3, 5, 16, 17, 32, 33, 64, 65, 100, 256)] == [1, 2, 4, 8, 16, 32, 32, 64, 64, 96, 128, 256]


def test_a_bucket_forgets_rows_that_left() -> None:
    """Prevents: a row's old pages in the table of those that stand for nobody."""
    bucket = Bucket(4, width=10, scratch=9, device=torch.device("cpu"))
    rows = [_branch(shared=[7], own=[number], length=5) for number in range(4)]
    bucket.fill(rows)
    assert bucket.table[:, :2].tolist() == [[7, 0], [7, 1], [7, 2], [7, 3]]
    bucket.fill(rows[2:])
    assert bucket.table[:2, :2].tolist() == [[7, 2], [7, 3]]
    assert bucket.table[2:, 0].tolist() == [9, 9]
    assert bucket.steps.tolist() == [[3, 3, 0, 0], [5, 5, 0, 0]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu(tiny_folder: Callable[[str], Path]) -> None:
    """The real capture and the real kernel against the plain path, on the device."""
    policy = load_tiny(tiny_folder("gemma2"))
    policy.model.to("cuda")
    answers = NativeEngine(policy, page_size=PAGE).generate(requests(), GREEDY)
    assert tokens(answers) == tokens(plain(policy, requests(), GREEDY))
    assert CudaCapture(policy.device)(lambda: torch.ones(1, device="cuda"))().tolist() == [1.0]


def _branch(*, shared: list[int], own: list[int], length: int) -> Branch:
    completing = Completing(request=0, sibling=0, prompt_ids=(1,), uniforms=[], token_ids=[3])
    return Branch(sequences=[completing], shared=shared, own=own, length=length)
