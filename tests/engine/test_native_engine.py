"""The native engine against transformers' own `generate`, against the trainer's forward pass, and against itself in a crowd."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import KINDS, load_tiny, random_ids, save_tiny, stir_adapter

from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import ConfigError, EngineError, GuardStop
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.training.batch import pack
from heron.training.samples import Sample
from heron.types import Completion, FinishReason

LENGTHS = (9, 1, 14, 9, 3)
NEW = 16


def prompts(seed: int = 0, lengths: Sequence[int] = LENGTHS) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return [random_ids(draw, length) for length in lengths]


def requests(seed: int = 0, siblings: int = 3, lengths: Sequence[int] = LENGTHS) -> list[Request]:
    return [
        Request(prompt_ids=ids, seeds=tuple(1000 * number + sibling for sibling in range(siblings)))
        for number, ids in enumerate(prompts(seed, lengths))
    ]


def tokens(answers: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[answer.token_ids for answer in siblings] for siblings in answers]


def reference_greedy(model: Any, ids: tuple[int, ...], end_ids: Sequence[int]) -> tuple[int, ...]:
    """transformers' greedy answer to one prompt alone."""
    output = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), max_new_tokens=NEW, do_sample=False,
        eos_token_id=list(end_ids), pad_token_id=0,
    )
    return tuple(output[0, len(ids) :].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_transformers(tiny_folder: Callable[[str], Path], kind: str) -> None:
    """Prevents: wrong positions, caches that leak between ragged rows, and windows that are off by one. Windows are 7, rows up to 30."""
    from transformers import AutoModelForCausalLM

    policy = load_tiny(tiny_folder(kind))
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(kind), attn_implementation="eager")
    wanted = [Request(prompt_ids=ids, seeds=(0,)) for ids in prompts()]
    answers = NativeEngine(policy).generate(wanted, SamplingParams(max_tokens=NEW, temperature=0))
    for request, (answer,) in zip(wanted, answers, strict=True):
        assert answer.token_ids == reference_greedy(model, request.prompt_ids, sorted(policy.end_ids))
    assert len({answer.token_ids for (answer,) in answers}) > 1


def test_greedy_with_adapter_equals_transformers(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: an engine that samples from the base model without its adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    plain = NativeEngine(policy).generate(requests(siblings=1), SamplingParams(max_tokens=NEW, temperature=0))
    stir_adapter(policy)
    policy.save(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder("qwen3"), attn_implementation="sdpa")
    model = PeftModel.from_pretrained(base, str(tmp_path))
    answers = NativeEngine(policy).generate(requests(siblings=1), SamplingParams(max_tokens=NEW, temperature=0))
    assert tokens(answers) != tokens(plain)
    for request, (answer,) in zip(requests(), answers, strict=True):
        assert answer.token_ids == reference_greedy(model, request.prompt_ids, sorted(policy.end_ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_and_trainer_have_the_same_logprobs(
    tiny_folder: Callable[[str], Path], kind: str, method: str, temperature: float
) -> None:
    """One set of weights, one model code: what was sampled with is what is trained with, temperature included."""
    policy = load_tiny(tiny_folder(kind), method=method, lora_rank=4)
    if method == "lora":
        stir_adapter(policy, scale=0.05)
    asked = requests()
    answers = NativeEngine(policy).generate(asked, SamplingParams(max_tokens=NEW, temperature=temperature))
    groups = [
        [
            Sample(prompt_ids=request.prompt_ids, token_ids=a.token_ids, is_trained=(True,) * len(a.token_ids),
                   sampler_logprobs=a.logprobs, advantage=1.0, weight=1.0, entropy_weight=0.0, keep=(True,) * len(a.token_ids))
            for a in siblings
        ]
        for request, siblings in zip(asked, answers, strict=True)
    ]
    for batch in pack(groups, budget=100, device=policy.device):
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        logp, _ = policy.logprobs(hidden[0, batch.where], batch.targets, temperature=temperature)
        assert float((logp.detach() - batch.sampler_logprobs).abs().max()) < 1e-5


def test_entropy_of_every_token(tiny_folder: Callable[[str], Path]) -> None:
    """The logged entropy is that of the tempered distribution, checked against the trainer's kernel."""
    policy = load_tiny(tiny_folder("qwen3"))
    (asked,) = requests(siblings=1, lengths=(6,))
    ((answer,),) = NativeEngine(policy).generate([asked], SamplingParams(max_tokens=NEW, temperature=0.7))
    sample = Sample(prompt_ids=asked.prompt_ids, token_ids=answer.token_ids, is_trained=(True,) * len(answer.token_ids),
                    sampler_logprobs=answer.logprobs, advantage=1.0, weight=1.0, entropy_weight=0.0, keep=(True,) * len(answer.token_ids))
    (batch,) = pack([[sample]], budget=100, device=policy.device)
    with torch.no_grad():
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        _, entropy = policy.logprobs(hidden[0, batch.where], batch.targets, temperature=0.7, entropy=True)
    assert answer.entropies == pytest.approx(entropy.tolist(), rel=1e-4)


class TestCrowds:
    """A completion depends on its prompt and its seed, on nothing else."""

    @pytest.fixture
    def policy(self, tiny_folder: Callable[[str], Path]) -> Policy:
        policy = load_tiny(tiny_folder("qwen3"))
        policy.end_ids = frozenset({*policy.end_ids, *range(0, 250, 12)})  # many end early, so rows are dropped on the way
        return policy

    def test_alone_or_in_a_crowd(self, policy: Policy) -> None:
        """Prevents: one generator for the whole batch, and cache rows that are mixed up when ended rows are dropped."""
        params = SamplingParams(max_tokens=40, temperature=1.0)
        crowd = NativeEngine(policy).generate(requests(), params)
        lengths = {len(ids) for siblings in tokens(crowd) for ids in siblings}
        assert len(lengths) > 4, "the test needs completions that end at different times"
        for request, siblings in zip(requests(), tokens(crowd), strict=True):
            for seed, ids in zip(request.seeds, siblings, strict=True):
                alone = NativeEngine(policy).generate([Request(prompt_ids=request.prompt_ids, seeds=(seed,))], params)
                assert tokens(alone) == [[ids]]

    @pytest.mark.parametrize("max_concurrent", [1, 2, 4, 7, 15, 100])
    def test_waves(self, policy: Policy, max_concurrent: int) -> None:
        """Prevents: completions that are lost, doubled or handed to another request where a wave cuts a group."""
        params = SamplingParams(max_tokens=NEW)
        whole = NativeEngine(policy).generate(requests(), params)
        assert tokens(NativeEngine(policy, max_concurrent=max_concurrent).generate(requests(), params)) == tokens(whole)

    def test_waves_hold_no_more_than_allowed(self, policy: Policy) -> None:
        """`max_concurrent` bounds the completions in the making."""
        counts: list[int] = []
        stream = NativeEngine(policy, max_concurrent=4).stream(
            requests(), SamplingParams(max_tokens=4), on_token=lambda *_: counts.append(stream.scheduler.rows)
        )
        assert len(list(stream)) == 15
        assert max(counts) == 4

    def test_order_of_requests(self, policy: Policy) -> None:
        params = SamplingParams(max_tokens=NEW)
        forward = tokens(NativeEngine(policy).generate(requests(), params))
        backward = tokens(NativeEngine(policy).generate(requests()[::-1], params))
        assert backward == forward[::-1]

    def test_seeds_make_siblings_differ(self, policy: Policy) -> None:
        ids = prompts()[0]
        params = SamplingParams(max_tokens=NEW)
        (siblings,) = NativeEngine(policy).generate([Request(prompt_ids=ids, seeds=(1, 2, 1))], params)
        assert siblings[0].token_ids == siblings[2].token_ids != siblings[1].token_ids

    def test_progress_counts_completions(self, policy: Policy) -> None:
        """Prevents: a bar that never reaches its end, or runs backwards from wave to wave."""
        seen: list[tuple[int, int]] = []
        NativeEngine(policy, max_concurrent=4).generate(
            requests(), SamplingParams(max_tokens=NEW), on_progress=lambda done, total: seen.append((done, total))
        )
        assert seen[-1] == (15, 15)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class TestEnds:
    """How a completion ends."""

    def test_limit_marks_length(self, tiny_folder: Callable[[str], Path]) -> None:
        policy = load_tiny(tiny_folder("qwen3"))
        policy.end_ids = frozenset()
        answers = NativeEngine(policy).generate(requests(), SamplingParams(max_tokens=5))
        for answer in (answer for siblings in answers for answer in siblings):
            assert len(answer.token_ids) == len(answer.logprobs) == 5
            assert answer.finish_reason is FinishReason.LENGTH
            assert answer.truncated

    def test_one_token(self, tiny_folder: Callable[[str], Path]) -> None:
        answers = NativeEngine(load_tiny(tiny_folder("qwen3"))).generate(requests(), SamplingParams(max_tokens=1))
        assert {len(answer.token_ids) for siblings in answers for answer in siblings} == {1}

    def test_every_end_token_ends_and_is_kept(self, tiny_folder: Callable[[str], Path]) -> None:
        """Prevents: only the first of several end tokens counts (Llama 3, Qwen), or the end token is not trained."""
        policy = load_tiny(tiny_folder("qwen3"))
        policy.end_ids = frozenset()
        params = SamplingParams(max_tokens=NEW)
        (whole,) = NativeEngine(policy).generate(requests(siblings=6, lengths=(8,)), params)
        ends = {whole[0].token_ids[3], whole[1].token_ids[7], whole[2].token_ids[NEW - 1]}
        policy.end_ids = frozenset(ends)
        (cut,) = NativeEngine(policy).generate(requests(siblings=6, lengths=(8,)), params)
        for before, after in zip(whole, cut, strict=True):
            first = next((place for place, token in enumerate(before.token_ids) if token in ends), None)
            assert after.token_ids == before.token_ids[: NEW if first is None else first + 1]
            assert after.logprobs == pytest.approx(before.logprobs[: len(after.token_ids)], abs=1e-5)
            assert after.truncated == (first is None)

    def test_end_token_in_the_last_place_is_no_truncation(self, tiny_folder: Callable[[str], Path]) -> None:
        policy = load_tiny(tiny_folder("qwen3"))
        policy.end_ids = frozenset()
        (asked,) = requests(siblings=1, lengths=(8,))
        ((whole,),) = NativeEngine(policy).generate([asked], SamplingParams(max_tokens=NEW))
        limit = next(place for place in range(1, NEW) if whole.token_ids[place] not in whole.token_ids[:place]) + 1
        policy.end_ids = frozenset({whole.token_ids[limit - 1]})
        ((cut,),) = NativeEngine(policy).generate([asked], SamplingParams(max_tokens=limit))
        assert cut.token_ids == whole.token_ids[:limit]
        assert cut.finish_reason is FinishReason.STOP

    def test_end_tokens_of_the_generation_config(self, tmp_path: Path) -> None:
        """Prevents: `<|eot_id|>`, which only the generation config names, does not end an answer."""
        folder = save_tiny("llama", tmp_path, eos_token_id=[257, 5, 9])
        assert load_tiny(folder).end_ids == {257, 5, 9}


class TestLimits:
    """What the engine refuses."""

    def test_prompt_that_does_not_fit(self, tmp_path: Path) -> None:
        """Prevents: positions beyond what the model was made for, and nonsense without a word."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, max_position_embeddings=20))
        fits = Request(prompt_ids=tuple(range(1, 13)), seeds=(0,))
        NativeEngine(policy).generate([fits], SamplingParams(max_tokens=8))
        with pytest.raises(EngineError, match=r"12 tokens.*9 new.*context of 20"):
            NativeEngine(policy).generate([fits], SamplingParams(max_tokens=9))

    def test_prompt_without_tokens(self, tiny_folder: Callable[[str], Path]) -> None:
        with pytest.raises(EngineError, match="no prompt tokens"):
            NativeEngine(load_tiny(tiny_folder("qwen3"))).generate([Request(prompt_ids=(), seeds=(0,))], SamplingParams(max_tokens=2))

    def test_token_that_the_model_does_not_know(self, tmp_path: Path) -> None:
        """Prevents: an index error deep in the embedding, or a device assertion that ends the process."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, vocab_size=260))
        with pytest.raises(EngineError, match=r"token 261.*260 entries"):
            NativeEngine(policy).generate([Request(prompt_ids=(1, 261), seeds=(0,))], SamplingParams(max_tokens=2))

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_broken_weights(self, tiny_folder: Callable[[str], Path], temperature: float, bad: float) -> None:
        """Prevents: nonsense sampled from NaN, an index behind the vocabulary, a device assertion."""
        policy = load_tiny(tiny_folder("qwen3"))
        with torch.no_grad():
            policy.trainable()[-1][1].fill_(bad)
        with pytest.raises(GuardStop, match="not finite"):
            NativeEngine(policy).generate([Request(prompt_ids=(1, 2), seeds=(0,))], SamplingParams(max_tokens=2, temperature=temperature))

    def test_nothing_asked(self, tiny_folder: Callable[[str], Path]) -> None:
        engine = NativeEngine(load_tiny(tiny_folder("qwen3")))
        assert engine.generate([], SamplingParams(max_tokens=2)) == []
        assert engine.generate([Request(prompt_ids=(1, 2), seeds=())], SamplingParams(max_tokens=2)) == [[]]

    @pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": 3, "temperature": -0.1}])
    def test_params(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            SamplingParams(**wrong)


class TestSideEffects:
    """Sampling must leave the policy as it was."""

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_and_gradients(self, tiny_folder: Callable[[str], Path], training: bool) -> None:
        """Prevents: a trainer that goes on in eval mode, and weights or buffers that became inference tensors."""
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
        policy.model.train(training)
        NativeEngine(policy).generate(requests(), SamplingParams(max_tokens=4))
        assert policy.model.training is training
        assert all(weight.grad is None for weight in policy.model.parameters())
        sample = Sample(prompt_ids=(1, 2), token_ids=(3,), is_trained=(True,), sampler_logprobs=(0.0,), advantage=1.0,
                        weight=1.0, entropy_weight=0.0, keep=(True,))
        (batch,) = pack([[sample]], budget=10, device=policy.device)
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        policy.logprobs(hidden[0, batch.where], batch.targets, temperature=1.0)[0].sum().backward()
        assert all(weight.grad is not None for _, weight in policy.trainable())

    def test_global_random_state_is_untouched(self, tiny_folder: Callable[[str], Path]) -> None:
        """What a completion draws depends on its seed alone, and nothing else draws differently after it."""
        policy = load_tiny(tiny_folder("qwen3"))
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        NativeEngine(policy).generate(requests(), SamplingParams(max_tokens=4))
        assert torch.equal(torch.rand(3), expected)

    def test_completions_know_the_policy_version(self, tiny_folder: Callable[[str], Path]) -> None:
        policy = load_tiny(tiny_folder("qwen3"))
        policy.version = 17
        ((answer,),) = NativeEngine(policy).generate([Request(prompt_ids=(1, 2), seeds=(0,))], SamplingParams(max_tokens=2))
        assert answer.policy_version == 17

    def test_new_weights_are_sampled_at_once(self, tiny_folder: Callable[[str], Path]) -> None:
        """No copy, nothing to sync: a changed weight shows in the next token."""
        policy = load_tiny(tiny_folder("qwen3"))
        engine = NativeEngine(policy)
        params = SamplingParams(max_tokens=NEW, temperature=0)
        before = tokens(engine.generate(requests(siblings=1), params))
        with torch.no_grad():
            for _, weight in policy.trainable():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
        assert tokens(engine.generate(requests(siblings=1), params)) != before


def test_greedy_takes_the_likeliest_token_whatever_the_seed(tiny_folder: Callable[[str], Path]) -> None:
    policy = load_tiny(tiny_folder("qwen3"))
    params = SamplingParams(max_tokens=NEW, temperature=0)
    (siblings,) = NativeEngine(policy).generate([Request(prompt_ids=(1, 2, 3), seeds=(1, 2, 3))], params)
    assert len({answer.token_ids for answer in siblings}) == 1
    assert all(set(answer.entropies) == {0.0} for answer in siblings)


def test_frequencies_of_the_first_token(tiny_folder: Callable[[str], Path]) -> None:
    """The whole path, from seed to token, draws the model's own distribution: many seeds, one token each."""
    policy = load_tiny(tiny_folder("qwen3"))
    draws = 6000
    params = SamplingParams(max_tokens=1, temperature=0.5)
    (answers,) = NativeEngine(policy, max_concurrent=draws).generate([Request(prompt_ids=(7, 8, 9), seeds=tuple(range(draws)))], params)
    drawn = torch.bincount(torch.tensor([answer.token_ids[0] for answer in answers]), minlength=policy.vocabulary_size)
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[7, 8, 9]]), plan=packed_plan([range(3)], device=policy.device)).logits[0, -1]
    expected = (logits.double() / 0.5).softmax(-1) * draws
    common = expected > 5
    statistic = float(((drawn - expected) ** 2 / expected)[common].sum())
    cells = int(common.sum())
    assert cells > 20
    assert statistic < cells + 4 * (2 * cells) ** 0.5
