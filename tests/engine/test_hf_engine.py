"""The engine that runs transformers' `generate`: the reference of other engines, so it is compared with transformers itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tinymodels import KINDS, load_tiny, random_ids, stir_adapter

from heron.config.schema import RolloutConfig
from heron.engine import HFEngine, Request, SamplingParams, make_engine
from heron.errors import ConfigError, EngineError, GuardStop
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.types import Completion, FinishReason

NEW = 12
DRAWN = SamplingParams(max_tokens=NEW, temperature=0.8)


def requests(siblings: int = 2, lengths: tuple[int, ...] = (9, 1, 14)) -> list[Request]:
    draw = random.Random(0)
    return [
        Request(prompt_ids=random_ids(draw, length), seeds=tuple(100 * number + sibling for sibling in range(siblings)))
        for number, length in enumerate(lengths)
    ]


def tokens(answers: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[answer.token_ids for answer in siblings] for siblings in answers]


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_a_fresh_model(tiny_folder: Callable[[str], Path], kind: str) -> None:
    """Prevents: left padding that is attended to, an attention of Heron's that is still on, or caps that sdpa leaves out."""
    from transformers import AutoModelForCausalLM

    policy = load_tiny(tiny_folder(kind))
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(kind), attn_implementation="eager")
    answers = HFEngine(policy).generate(requests(siblings=1), SamplingParams(max_tokens=NEW, temperature=0))
    for request, (answer,) in zip(requests(), answers, strict=True):
        ids = torch.tensor([request.prompt_ids])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, eos_token_id=sorted(policy.end_ids),
            pad_token_id=0,
        )
        assert answer.token_ids == tuple(output[0, ids.shape[1] :].tolist())
        assert set(answer.entropies) == {0.0}
    assert len({answer.token_ids for (answer,) in answers}) > 1


@pytest.mark.parametrize("method", ["full", "lora"])
def test_logprobs_are_of_the_tempered_policy(tiny_folder: Callable[[str], Path], method: str) -> None:
    """Prevents: a sampler without the adapter, and log-probs or entropies of another temperature. The policy's own pass is the judge."""
    policy = load_tiny(tiny_folder("qwen3"), method=method, lora_rank=4)
    if method == "lora":
        stir_adapter(policy, scale=0.05)
    for request, siblings in zip(requests(), HFEngine(policy).generate(requests(), DRAWN), strict=True):
        for answer in siblings:
            row = [*request.prompt_ids, *answer.token_ids[:-1]]
            plan = packed_plan([range(len(row))], device=policy.device)
            with torch.no_grad():
                hidden = policy.hidden(torch.tensor([row]), torch.arange(len(row))[None], plan)
                predicting = hidden[0, len(request.prompt_ids) - 1 :]
                logps, nats = policy.logprobs(predicting, torch.tensor(answer.token_ids), temperature=0.8, entropy=True)
            assert nats is not None
            assert answer.logprobs == pytest.approx(logps.tolist(), abs=2e-5)
            assert answer.entropies == pytest.approx(nats.tolist(), abs=2e-4)


def test_a_seed_decides_whatever_the_batch(policy: Policy) -> None:
    """Prevents: one global generator, with which the neighbours of a request would change what it says."""
    whole = tokens(HFEngine(policy).generate(requests(), DRAWN))
    assert tokens(HFEngine(policy, max_concurrent=2).generate(requests(), DRAWN)) == whole
    assert tokens(HFEngine(policy).generate(requests()[::-1], DRAWN))[::-1] == whole
    torch.manual_seed(1)
    assert tokens([HFEngine(policy).generate([request], DRAWN)[0] for request in requests()]) == whole
    assert len({answer for siblings in whole for answer in siblings}) == 6


def test_it_draws_what_the_native_engine_draws(policy: Policy) -> None:
    """The two engines share seeds and model, so they are comparable token by token."""
    native, hf = (
        make_engine(name, policy).generate(requests(), DRAWN) for name in ("native", "hf")
    )
    assert tokens(native) == tokens(hf)


def test_ends(policy: Policy) -> None:
    """Prevents: completions that go on behind an end token because their batch does, and ones longer than allowed."""
    policy.end_ids = frozenset(range(0, 265, 5))
    answers = [answer for siblings in HFEngine(policy).generate(requests(4), DRAWN) for answer in siblings]
    assert {answer.finish_reason for answer in answers} == {FinishReason.STOP, FinishReason.LENGTH}
    for answer in answers:
        assert not policy.end_ids & set(answer.token_ids[:-1])
        assert (answer.token_ids[-1] in policy.end_ids) == (answer.finish_reason is FinishReason.STOP)
        assert len(answer.token_ids) == NEW or answer.finish_reason is FinishReason.STOP
        assert len(answer.logprobs) == len(answer.entropies) == len(answer.token_ids)


def test_the_model_is_given_back(policy: Policy) -> None:
    """Prevents: a trainer that finds the model with another attention, or with other generation settings, also after an error."""
    settings = policy.model.generation_config
    policy.model.train()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HFEngine(policy).generate(requests(), DRAWN, on_progress=stop)
    assert policy.model.config._attn_implementation == "heron"
    assert policy.model.generation_config is settings
    assert policy.model.training


def test_settings_of_the_checkpoint_change_nothing(policy: Policy) -> None:
    """Prevents: a repetition penalty or a shortest length from generation_config.json that bends what is sampled unseen."""
    before = tokens(HFEngine(policy).generate(requests(), DRAWN))
    policy.model.generation_config.repetition_penalty = 5.0
    policy.model.generation_config.max_length = 3
    assert tokens(HFEngine(policy).generate(requests(), DRAWN)) == before


def test_a_pause_and_going_on(policy: Policy) -> None:
    """Prevents: a continued completion that draws other tokens than it would have drawn, or loses what it had said."""
    (asked,) = requests(siblings=2, lengths=(6,))
    (whole,) = HFEngine(policy).generate([asked], DRAWN)
    said = tuple(
        replace(answer, token_ids=answer.token_ids[:cut], logprobs=answer.logprobs[:cut], entropies=answer.entropies[:cut],
                versions=((0, cut),), finish_reason=FinishReason.PAUSED)
        for answer, cut in zip(whole, (5, 2), strict=True)
    )
    policy.version = 3
    (continued,) = HFEngine(policy).generate([replace(asked, said=said)], DRAWN)
    assert tokens([continued]) == tokens([whole])
    for answer, full, cut in zip(continued, whole, (5, 2), strict=True):
        assert answer.logprobs == pytest.approx(full.logprobs, abs=1e-5)
        assert answer.versions == ((0, cut), (3, len(full.token_ids) - cut))
        assert answer.policy_version == 0
    stream = HFEngine(policy, max_concurrent=1).stream([asked], DRAWN)
    assert next(stream).completion.token_ids == whole[0].token_ids
    (rest,) = stream.pause()
    assert (rest.sibling, rest.completion.token_ids, rest.completion.finish_reason) == (1, (), FinishReason.PAUSED)
    assert list(stream) == []


def test_progress_counts_completions(policy: Policy) -> None:
    seen: list[tuple[int, int]] = []
    HFEngine(policy, max_concurrent=4).generate(requests(), DRAWN, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[0] == (0, 6) and seen[-1] == (6, 6)
    assert (4, 6) in seen


class TestRefusals:
    """What it cannot do is said before anything is sampled."""

    def test_other_parameters_by_name(self, policy: Policy) -> None:
        """Prevents: a filter that is asked for and quietly not applied."""
        for name, value in (("top_p", 0.9), ("stop", ("x",)), ("repetition_penalty", 1.2)):
            with pytest.raises(EngineError, match=name):
                HFEngine(policy).generate(requests(), replace(DRAWN, **{name: value}))

    def test_requests_that_do_not_fit(self, policy: Policy) -> None:
        with pytest.raises(EngineError, match="context"):
            HFEngine(policy).generate(requests(), SamplingParams(max_tokens=510))
        with pytest.raises(EngineError, match="no prompt tokens"):
            HFEngine(policy).generate([Request(prompt_ids=(), seeds=(0,))], DRAWN)
        with pytest.raises(EngineError, match="vocabulary"):
            HFEngine(policy).generate([Request(prompt_ids=(1, 9999), seeds=(0,))], DRAWN)

    def test_broken_weights(self, policy: Policy) -> None:
        with torch.no_grad():
            policy.model.get_input_embeddings().weight.fill_(float("nan"))
        with pytest.raises(GuardStop, match="not finite"):
            HFEngine(policy).generate(requests(), DRAWN)

    def test_nothing_at_once(self, policy: Policy) -> None:
        """Prevents: a range of step 0, or a call that returns fewer answers than asked for."""
        for most in (0, -1):
            with pytest.raises(EngineError, match=f"max_concurrent must be at least 1, but it is {most}"):
                HFEngine(policy, max_concurrent=most)

    def test_unknown_engine(self) -> None:
        with pytest.raises(ConfigError, match="natve"):
            RolloutConfig(engine="natve")
