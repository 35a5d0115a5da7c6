"""Turns of engine and environment: what was sampled stays as it was, what the environment said is never trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import TAGS, load_tiny, prompt

from heron.engine import NativeEngine, SamplingParams, ScriptedEngine
from heron.environments import Retry, SingleTurn
from heron.errors import RewardError
from heron.models import Policy
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.training.batch import pack
from heron.training.samples import Weighing, make_samples
from heron.types import Group, Message, Prompt, Rollout

PARAMS = SamplingParams(max_tokens=64)
RIGHT = "<start_working_out>1+1=2<end_working_out><SOLUTION>2</SOLUTION>"
WRONG = "<start_working_out>1+1=3<end_working_out><SOLUTION>3</SOLUTION>"
ASKED = prompt(answer="2")


def length(completion: str) -> float:
    return float(len(completion))


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def collector(
    policy: Policy, script: Callable[[tuple[int, ...], int], Sequence[int]], environment: Any = None, rubric: Any = None
) -> Collector:
    return Collector(
        policy=policy, engine=ScriptedEngine(script), environment=environment or SingleTurn(),
        rubric=Rubric(rubric or [length], tags=TAGS),
    )


def said(policy: Policy, text: str) -> tuple[int, ...]:
    return (*policy.encode(text), policy.tokenizer.eos_token_id)


class TestSingleTurn:
    """One question, one answer."""

    def test_tokens_are_kept_exactly(self, policy: Policy) -> None:
        """Prevents: text that is tokenised again, which can give other tokens than were sampled."""
        odd = (policy.encode("<")[0], policy.encode("SOLUTION>")[0], 256, 99, 257)  # a pad token in the middle included
        ((rollout,),) = collector(policy, lambda ids, sibling: odd).sample([ASKED], PARAMS, siblings=1, seed=0)
        assert rollout.completion_ids == odd
        assert rollout.turns[0].prompt_ids == policy.render(ASKED.messages)

    def test_text_is_without_the_end_token(self, policy: Policy) -> None:
        ((rollout,),) = collector(policy, lambda ids, sibling: said(policy, RIGHT)).sample([ASKED], PARAMS, siblings=1, seed=0)
        assert rollout.text == RIGHT
        assert rollout.messages == (*ASKED.messages, {"role": "assistant", "content": RIGHT})
        assert rollout.prefilled == ""

    def test_prefilled_tag_is_known_and_not_part_of_the_text(self, policy: Policy) -> None:
        """Prevents: format rewards that miss the tag which the prompt already wrote, or count it twice."""
        opened = TAGS.reasoning_start
        policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace('"<|assistant|>"', f'"<|assistant|>{opened}"')
        rest = RIGHT.removeprefix(opened)
        ((rollout,),) = collector(policy, lambda ids, sibling: said(policy, rest)).sample([ASKED], PARAMS, siblings=1, seed=0)
        assert rollout.prefilled == opened
        assert rollout.text == rest
        assert rollout.messages[-1]["content"] == RIGHT
        assert rollout.turns[0].prompt_ids[-1] == policy.encode(opened)[0]

    def test_siblings_share_one_request_and_have_own_seeds(self, policy: Policy) -> None:
        made = collector(policy, lambda ids, sibling: said(policy, str(sibling)))
        groups = made.sample([ASKED, prompt(1, "Other?")], PARAMS, siblings=3, seed=0)
        assert [[rollout.text for rollout in group] for group in groups] == [["0", "1", "2"]] * 2
        engine = made.engine
        assert isinstance(engine, ScriptedEngine)
        assert [len(request.seeds) for request in engine.requests] == [3, 3]
        seeds = [seed for request in engine.requests for seed in request.seeds]
        assert len(set(seeds)) == 6
        assert all(0 <= seed < 2**63 for seed in seeds), "torch takes no larger seed"

    def test_seeds_differ_between_steps_and_agree_between_runs(self, policy: Policy) -> None:
        """Prevents: the same answers drawn in every step, and runs that cannot be repeated."""

        def seeds(seed: int) -> list[tuple[int, ...]]:
            made = collector(policy, lambda ids, sibling: [257])
            made.sample([ASKED], PARAMS, siblings=2, seed=seed)
            assert isinstance(made.engine, ScriptedEngine)
            return [request.seeds for request in made.engine.requests]

        assert seeds(1) == seeds(1) != seeds(2)


class TestTwoTurns:
    """An environment that replies once."""

    def script(self, policy: Policy) -> Callable[[tuple[int, ...], int], tuple[int, ...]]:
        """Sibling 0 is wrong first and right then, sibling 1 right at once, sibling 2 always wrong."""
        asked = policy.render(ASKED.messages)

        def answer(ids: tuple[int, ...], sibling: int) -> tuple[int, ...]:
            first = ids == asked
            if first:
                return said(policy, WRONG if sibling in (0, 2) else RIGHT)
            return said(policy, RIGHT if "first" not in policy.decode(ids) else WRONG)

        return answer

    def collected(self, policy: Policy) -> list[Rollout]:
        return collector(policy, self.script(policy), Retry(TAGS)).sample([ASKED], PARAMS, siblings=3, seed=0)[0]

    def test_turns(self, policy: Policy) -> None:
        """Prevents: a right answer that is asked again, and an order of siblings that is mixed up after the first turn."""
        rollouts = self.collected(policy)
        assert [len(rollout.turns) for rollout in rollouts] == [2, 1, 2]
        assert [rollout.text for rollout in rollouts] == [RIGHT, RIGHT, RIGHT]
        assert [message["role"] for message in rollouts[0].messages] == ["user", "assistant", "user", "assistant"]

    def test_context_of_the_second_turn_is_what_was_sampled_plus_the_reply(self, policy: Policy) -> None:
        """Prevents: an end token that is written twice, a reply without its role mark, or a conversation rendered anew."""
        rollout = self.collected(policy)[0]
        first, second = rollout.turns
        whole = (*first.prompt_ids, *first.completion.token_ids, *second.prompt_ids)
        assert whole == policy.render(rollout.messages[:-1]), "with this template both ways give the same tokens"
        assert second.prompt_ids[0] != policy.tokenizer.eos_token_id
        assert whole.count(policy.tokenizer.eos_token_id) == 3

    def test_truncated_answer_gets_no_reply(self, policy: Policy) -> None:
        """A reply behind half an answer would teach the model to be cut off."""
        made = collector(policy, lambda ids, sibling: said(policy, WRONG), Retry(TAGS))
        ((rollout,),) = made.sample([ASKED], SamplingParams(max_tokens=4), siblings=1, seed=0)
        assert len(rollout.turns) == 1
        assert rollout.truncated

    def test_replies_are_not_trained(self, policy: Policy) -> None:
        """Prevents: a model that learns to speak for its environment."""
        rollouts = self.collected(policy)
        group = Group(prompt=ASKED, rollouts=tuple(rollouts))
        (samples,) = make_samples([group], Weighing(scheme="tokens", max_completion_length=64, keep_all=True))
        sample, rollout = samples[0], rollouts[0]
        first, second = rollout.turns
        assert sample.prompt_ids == first.prompt_ids
        assert sample.token_ids == (*first.completion.token_ids, *second.prompt_ids, *second.completion.token_ids)
        trained = tuple(token for token, is_trained in zip(sample.token_ids, sample.is_trained, strict=True) if is_trained)
        assert trained == rollout.completion_ids
        assert sample.is_trained.count(False) == len(second.prompt_ids)
        (batch,) = pack([samples], budget=1 << 20, device=torch.device("cpu"))
        assert batch.targets.tolist() == [token for rollout in rollouts for token in rollout.completion_ids]
        assert float(batch.weights.sum()) == pytest.approx(1.0), "the counts are of trained tokens only"

    def test_logprobs_of_both_turns_match_the_trainer(self, policy: Policy) -> None:
        """Real sampling over two turns: each token's log-prob is the packed forward pass's, replies in between included."""

        class Again(SingleTurn):
            max_turns = 3

            def done(self, row: Prompt, messages: tuple[Message, ...]) -> bool:
                return False

            def step(self, row: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
                return ({"role": "user", "content": "Once more é."},)

        policy.end_ids = frozenset(range(0, 265, 3))
        made = Collector(policy=policy, engine=NativeEngine(policy), environment=Again(), rubric=Rubric([length], tags=TAGS))
        rollouts = made.sample([ASKED, prompt(1, "x")], SamplingParams(max_tokens=12), siblings=3, seed=5)
        assert max(len(rollout.turns) for siblings in rollouts for rollout in siblings) == 3
        groups = [Group(prompt=ASKED, rollouts=tuple(siblings)) for siblings in rollouts]
        samples = make_samples(groups, Weighing(scheme="tokens", max_completion_length=12, keep_all=True))
        for batch in pack(samples, budget=200, device=policy.device):
            with torch.no_grad():
                hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
                logp, _ = policy.logprobs(hidden[0, batch.where], batch.targets, temperature=1.0)
            assert float((logp - batch.sampler_logprobs).abs().max()) < 2e-5


class TestReply:
    """Tokens between two answers."""

    REPLY: tuple[Message, ...] = ({"role": "user", "content": "No."},)

    def test_end_token_is_written_by_the_model_or_by_the_template_never_twice(self, policy: Policy) -> None:
        end = policy.tokenizer.eos_token_id
        ended, cut = (policy.render_reply(ASKED.messages, self.REPLY, ended=flag) for flag in (True, False))
        assert cut == (end, *ended)
        assert ended[0] == policy.tokenizer.convert_tokens_to_ids("<|user|>")

    def test_answer_that_looks_like_the_mark_of_the_template(self, policy: Policy) -> None:
        """What the earlier answers say must not matter: only what the template writes behind them."""
        earlier = ({"role": "user", "content": "Q"}, {"role": "assistant", "content": "<|end|><|user|>"}, *self.REPLY)
        assert policy.render_reply(earlier, self.REPLY, ended=True) == policy.render_reply(ASKED.messages, self.REPLY, ended=True)


class TestScoring:
    """Rewards, totals, advantages."""

    def test_advantages_are_per_group(self, policy: Policy) -> None:
        made = collector(policy, lambda ids, sibling: said(policy, "x" * (1 + sibling * (len(ids) % 2))))
        rows = [ASKED, prompt(1, ASKED.question + "!")]
        groups = made.score(made.sample(rows, PARAMS, siblings=4, seed=0))
        assert [group.prompt.id for group in groups] == ["test:0", "test:1"]
        assert sorted(group.has_signal for group in groups) == [False, True]
        for group in groups:
            assert sum(rollout.advantage for rollout in group.rollouts) == pytest.approx(0, abs=1e-9)
            assert all(rollout.rewards == {"length": float(len(rollout.text))} for rollout in group.rollouts)

    def test_reward_function_that_raises_stops_with_row_and_completion(self, policy: Policy) -> None:
        def broken(completion: str) -> float:
            raise KeyError("oops")

        made = collector(policy, lambda ids, sibling: said(policy, "my answer"), rubric=[broken])
        with pytest.raises(RewardError, match=r"broken.*oops.*test:0.*my answer") as caught:
            made.score(made.sample([ASKED], PARAMS, siblings=2, seed=0))
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.__cause__.__traceback__ is not None

    def test_rollout_that_no_function_scored(self, policy: Policy) -> None:
        """None is not 0: such a rollout neither gets nor causes an advantage."""

        def sometimes(completion: str) -> float | None:
            return None if completion == "0" else float(completion)

        made = collector(policy, lambda ids, sibling: said(policy, str(sibling)), rubric=[sometimes])
        (group,) = replace(made, scale_rewards="none").score(made.sample([ASKED], PARAMS, siblings=3, seed=0))
        assert [rollout.reward for rollout in group.rollouts] == [None, 1.0, 2.0]
        assert [rollout.advantage for rollout in group.rollouts] == [0.0, -0.5, 0.5]


def test_prompt_is_rendered_once_for_all_siblings(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a chat template and a tokenizer that run G times for one prompt."""
    calls: list[Any] = []
    render = policy.render_text
    monkeypatch.setattr(policy, "render_text", lambda messages: calls.append(messages) or render(messages))
    collector(policy, lambda ids, sibling: [257]).sample([ASKED], PARAMS, siblings=8, seed=0)
    assert len(calls) == 1
