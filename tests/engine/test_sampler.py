"""The sampler on its own: made-up logits, real branches, a policy that is only a tokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from heron.engine import SamplingParams
from heron.engine.native.sampler import Sampler, StopStrings
from heron.engine.native.sequence import Branch, Sequence, new_sequence
from heron.errors import ConfigError, GuardStop
from heron.models.embedded import build_tokenizer
from heron.types import FinishReason, Tags


@dataclass
class FakePolicy:
    """What a sampler asks of a policy."""

    tokenizer: Any = field(default_factory=lambda: build_tokenizer(Tags()))
    version: int = 3

    def __post_init__(self) -> None:
        self.vocabulary_size = len(self.tokenizer)
        self.end_ids = frozenset({self.tokenizer.eos_token_id})

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: Any) -> str:
        return str(self.tokenizer.decode([token for token in token_ids if token not in self.end_ids], skip_special_tokens=False))


POLICY = FakePolicy()
END = POLICY.tokenizer.eos_token_id
SIZE = POLICY.vocabulary_size


def sampler(**settings: Any) -> Sampler:
    return Sampler(POLICY, SamplingParams(**{"max_tokens": 50, **settings}))  # type: ignore[arg-type]


def sequence(prompt: str = "q", sibling: int = 0, seed: int = 0) -> Sequence:
    return new_sequence(0, sibling, POLICY.encode(prompt), seed, None)


def certain(text_or_token: str | int) -> Tensor:
    """Logits `[1, V]` that leave no choice."""
    token = text_or_token if isinstance(text_or_token, int) else POLICY.encode(text_or_token)[0]
    return torch.full((1, SIZE), -50.0).index_fill(1, torch.tensor([token]), 50.0)


def write(one: Sampler, text: str, end: Sequence | None = None) -> Sequence:
    """Let it say the text, character by character, until it stops."""
    sequence_ = end or sequence()
    for token in POLICY.encode(text):
        if sequence_.finish_reason is None:
            one.draw(certain(token), [Branch(sequences=[sequence_])])
    return sequence_


def random_logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)) * 3


class TestDraw:
    """Who says what."""

    def test_each_sibling_draws_with_its_own_next_number(self) -> None:
        """Prevents: siblings that say the same, a number used twice, and rows that are mixed up."""
        branches = [Branch(sequences=[sequence(sibling=n, seed=n) for n in range(5)]), Branch(sequences=[sequence(seed=9)])]
        logits = random_logits(2)
        for _ in range(3):
            sampler().draw(logits, branches)
        for row, branch in enumerate(branches):
            cdf = logits[row].double().softmax(-1).cumsum(-1)
            for one in branch.sequences:
                uniforms = torch.tensor([one.uniforms[n] for n in range(3)], dtype=torch.float64)
                expected = torch.searchsorted(cdf, uniforms, right=True).tolist()
                assert one.token_ids == expected
                assert one.logprobs == pytest.approx(logits[row].log_softmax(-1)[expected].tolist(), abs=1e-5)
                assert one.versions == [(3, 3)]
        assert len({tuple(one.token_ids) for one in branches[0].sequences}) > 1

    def test_closed_sequences_say_nothing(self) -> None:
        """Prevents: tokens after the end."""
        closed, open_one = sequence(), sequence(sibling=1)
        closed.finish_reason = FinishReason.STOP
        sampler().draw(random_logits(2), [Branch(sequences=[closed]), Branch(sequences=[open_one])])
        assert (len(closed.token_ids), len(open_one.token_ids)) == (0, 1)
        sampler().draw(random_logits(1), [Branch(sequences=[closed])])
        assert closed.token_ids == []

    def test_distribution_is_the_one_drawn_from(self) -> None:
        """Prevents: log-probs and entropies of the distribution before the filters, which is not the one that was sampled."""
        one = sequence()
        logits = random_logits(1)
        sampler(temperature=0.7, top_k=3).draw(logits.clone(), [Branch(sequences=[one])])
        kept = (logits[0] / 0.7).topk(3)
        logprobs = kept.values.double().log_softmax(-1)
        assert one.token_ids[0] in kept.indices.tolist()
        assert one.logprobs[0] == pytest.approx(float(logprobs[kept.indices.tolist().index(one.token_ids[0])]), abs=1e-6)
        assert one.entropies[0] == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-5)

    def test_greedy(self) -> None:
        """The likeliest token, its log-prob at temperature 1 without filters, entropy 0."""
        one, logits = sequence(), random_logits(1)
        sampler(temperature=0, top_k=2, top_p=0.1).draw(logits.clone(), [Branch(sequences=[one])])
        assert one.token_ids == [int(logits.argmax())]
        assert one.logprobs == pytest.approx([float(logits.log_softmax(-1).max())], abs=1e-6)
        assert one.entropies == [0.0]

    @pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 5, "min_p": 0.1}])
    def test_broken_weights(self, temperature: float, bad: float, filters: dict[str, float]) -> None:
        """Prevents: nonsense said from NaN by some sequences of a batch before the error."""
        logits = random_logits(2)
        logits[1, 17] = bad
        both = [sequence(), sequence(sibling=1)]
        with pytest.raises(GuardStop, match="not finite"):
            sampler(temperature=temperature, **filters).draw(logits, [Branch(sequences=[one]) for one in both])
        assert [one.token_ids for one in both] == [[], []]


class TestPenalty:
    """CTRL's repetition penalty, as transformers has it."""

    @pytest.mark.parametrize("temperature", [0.0, 0.7])
    def test_equals_transformers(self, temperature: float) -> None:
        """Prevents: a prompt that is not counted, a token that is punished twice, and a wrong sign for negative logits."""
        from transformers import RepetitionPenaltyLogitsProcessor

        branches = [Branch(sequences=[sequence("aaab")]), Branch(sequences=[sequence("xyz z")])]
        branches[1].sequences[0].token_ids = [5, 7, 5]
        logits = random_logits(2)
        theirs = torch.cat([
            RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([branch.token_ids]), logits[row : row + 1])
            for row, branch in enumerate(branches)
        ])
        given = logits.clone()
        sampler(temperature=temperature, repetition_penalty=1.7).draw(given, branches)
        if temperature:
            torch.testing.assert_close(given, theirs, rtol=0, atol=0)
            for row, branch in enumerate(branches):
                token = branch.sequences[0].token_ids[-1]
                expected = (theirs[row].double() / temperature).log_softmax(-1)[token]
                assert branch.sequences[0].logprobs[-1] == pytest.approx(float(expected), abs=1e-5)
        else:
            assert [branch.sequences[0].token_ids[-1] for branch in branches] == theirs.argmax(-1).tolist()
            assert torch.equal(given, logits), "greedy log-probs are those of the logits as they were"


class TestEnds:
    """What closes a completion, and why."""

    def test_end_token_and_limit(self) -> None:
        one = sequence()
        sampler().draw(certain(END), [Branch(sequences=[one])])
        assert one.finish_reason is FinishReason.STOP
        assert write(sampler(max_tokens=3), "abcdef").finish_reason is FinishReason.LENGTH
        assert len(write(sampler(max_tokens=3), "abcdef").token_ids) == 3

    def test_end_token_at_the_limit_is_an_end(self) -> None:
        """Prevents: a whole answer that counts as truncated."""
        one = sequence()
        sampler(max_tokens=1).draw(certain(END), [Branch(sequences=[one])])
        assert one.finish_reason is FinishReason.STOP

    def test_stop_token_and_ignored_end(self) -> None:
        one = sequence()
        stopping = sampler(stop_token_ids=POLICY.encode("!"), ignore_end=True, max_tokens=9)
        stopping.draw(certain(END), [Branch(sequences=[one])])
        assert one.finish_reason is None
        write(stopping, "ab!c", one)
        assert (one.finish_reason, len(one.token_ids)) == (FinishReason.STOP, 4)

    @pytest.mark.parametrize("stop", [("</a>",), ("zz", "a>"), (">",), ("é</a>",), ("🦩é",), ("never", "</a> ")])
    def test_stop_string_across_tokens(self, stop: tuple[str, ...]) -> None:
        """Every token is one byte here: strings span tokens, and characters do too. Tokens stay as sampled up to the last of it."""
        text = "a long beginning so that only its tail is decoded: 🦩é</a> and more"
        one = write(sampler(stop=stop, max_tokens=50), "", sequence())
        one.uniforms = [0.5] * 200
        one = write(sampler(stop=stop, max_tokens=200), text, one)
        first = min(text.find(string) + len(string) for string in stop if string in text)
        assert POLICY.decode(one.token_ids) == text[:first]
        assert one.finish_reason is FinishReason.STOP

    def test_stop_string_inside_tokens(self) -> None:
        """Begins inside one token and ends inside another, whose rest stays in the completion."""
        pieces = ["x<", "/an", "s>!", " sp", "ace"]

        class Pieces:
            decoded = 0

            def decode(self, token_ids: Any) -> str:
                self.decoded += len(token_ids)
                return "".join(pieces[token] for token in token_ids).lstrip(" ")  # as sentencepiece's does

        policy = Pieces()
        stop = StopStrings(policy, ("</ans>",))  # type: ignore[arg-type]
        assert [stop.ends([4, 0, 1, 2][:n]) for n in range(1, 5)] == [False, False, False, True]
        assert StopStrings(policy, ("s>! ",)).ends([2, 3])  # type: ignore[arg-type]
        assert StopStrings(policy, (" ",)).ends([2, 3])  # type: ignore[arg-type]

    def test_cost_of_stop_strings_does_not_grow(self) -> None:
        """Prevents: decoding the whole completion for every token."""
        seen: list[int] = []

        class Counting(FakePolicy):
            def decode(self, token_ids: Any) -> str:
                seen.append(len(token_ids))
                return super().decode(token_ids)

        stop = StopStrings(Counting(), ("stop",))  # type: ignore[arg-type]
        said = list(POLICY.encode("p" * 3000))
        for length in range(1, 3000, 7):
            assert not stop.ends(said[:length])
        assert max(seen) <= 8


@pytest.mark.parametrize("wrong", [
    {"max_tokens": 0}, {"max_tokens": True}, {"max_tokens": 2.0}, {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": 1e-9},
    {"temperature": "1"}, {"top_k": -1}, {"top_k": 1.5}, {"top_k": True}, {"top_p": 0.0}, {"top_p": 1.01}, {"top_p": math.nan},
    {"min_p": -0.1}, {"min_p": 1.1}, {"repetition_penalty": 0.0}, {"repetition_penalty": math.inf}, {"stop": "text"}, {"stop": ("",)},
    {"stop": ["a"]}, {"stop": (3,)}, {"stop_token_ids": (-1,)}, {"stop_token_ids": [3]}, {"stop_token_ids": (True,)}, {"ignore_end": 1},
    {"structure": "[0-9]"},
])  # fmt: skip
def test_params_are_checked(wrong: dict[str, Any]) -> None:
    """Prevents: `stop="text"` that stops at every t, NaN that passes comparisons, and settings that are clamped in silence."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        SamplingParams(**{"max_tokens": 5, **wrong})
