"""Token by token: what the model said is trained and nothing else, and what was said is never rendered again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.data.arithmetic import Demonstration
from heron.engine import SamplingParams, ScriptedEngine
from heron.environments import Environment, Guess, ToolUse
from heron.environments.shipped_tools import find_tool
from heron.errors import ConfigError
from heron.models import Policy
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.training.demonstrations import sample_of
from heron.training.prompts import give_tools
from heron.training.samples import Weighing, make_samples
from heron.types import Group, Prompt, Rollout

PARAMS = SamplingParams(max_tokens=120)
CALL = '<tool_call>{"name": "calculate", "arguments": {"expression": "%s"}}</tool_call>'
SAID = [f"<start_working_out>first<end_working_out>{CALL % '12*7'}", f"<start_working_out>then<end_working_out>{CALL % '1/0'}",
        "<start_working_out>so<end_working_out><SOLUTION>84</SOLUTION>"]

LIKE_QWEN3 = """\
{%- if tools %}{{- "<|system|># Tools" }}{% for tool in tools %}{{- tool | tojson }}{% endfor %}{{- "<|end|>" }}{% endif %}
{%- set place = namespace(last=0) %}
{%- for message in messages %}{% if message.role == "user" %}{% set place.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role == "assistant" and loop.index0 < place.last and "<end_working_out>" in content %}
{%- set content = content.split("<end_working_out>")[-1] %}
{%- endif %}
{%- if message.role == "tool" %}{{- "<|user|><tool_response>" + content + "</tool_response><|end|>" }}
{%- else %}{{- "<|" + message.role + "|>" + content + "<|end|>" }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|assistant|>" }}{% endif %}
"""
"""Writes tools, has a role for their results, and drops the thinking of all answers before the last question, as Qwen3's does."""


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def length(completion: str) -> float:
    return float(len(completion))


def played(policy: Policy, environment: Environment, row: Prompt, said: Sequence[str]) -> tuple[Rollout, ScriptedEngine]:
    """A rollout of a model that says these texts one after the other."""
    opening = policy.encode("<|assistant|>")[0]
    engine = ScriptedEngine(lambda ids, sibling: (*policy.encode(said[ids.count(opening) - 1]), policy.tokenizer.eos_token_id))
    made = Collector(policy=policy, engine=engine, environment=environment, rubric=Rubric([length], tags=TAGS))
    ((rollout,),) = made.sample([row], PARAMS, siblings=1, seed=0)
    return rollout, engine


def spoken(policy: Policy, rollout: Rollout) -> list[tuple[str, bool]]:
    """The sample's tokens as runs of text, each trained or not, without a single token left out."""
    ((sample,),) = make_samples(
        [Group(prompt=rollout.prompt, rollouts=(rollout,))], Weighing(scheme="tokens", max_completion_length=64, keep_all=True),
    )
    runs: list[tuple[list[int], bool]] = []
    for token, is_trained in zip(sample.token_ids, sample.is_trained, strict=True):
        if not runs or runs[-1][1] is not is_trained:
            runs.append(([], is_trained))
        runs[-1][0].append(token)
    return [(str(policy.tokenizer.decode(tokens)), is_trained) for tokens, is_trained in runs]


def grows(engine: ScriptedEngine, rollout: Rollout) -> bool:
    """Every request begins with the one before and the very tokens that were sampled for it."""
    contexts = [request.prompt_ids for request in engine.requests]
    return all(
        after[: len(before) + len(turn.completion.token_ids)] == (*before, *turn.completion.token_ids)
        for before, after, turn in zip(contexts, contexts[1:], rollout.turns, strict=False)
    )


@pytest.mark.parametrize("template", ["embedded", "like Qwen3"])
def test_guess_is_masked_token_by_token(policy: Policy, template: str) -> None:
    """Prevents: hints that are trained, answers that are not, an end token on the wrong side."""
    if template == "like Qwen3":
        policy.tokenizer.chat_template = LIKE_QWEN3
    row = prompt(text="Guess.", low=1, high=9, answer="6")
    thought = "<start_working_out>1-9<end_working_out><SOLUTION>%d</SOLUTION>"
    rollout, engine = played(policy, Guess(TAGS), row, [thought % 4, thought % 7, thought % 6])
    assert spoken(policy, rollout) == [
        (thought % 4 + "<|end|>", True), ("<|user|>higher<|end|><|assistant|>", False),
        (thought % 7 + "<|end|>", True), ("<|user|>lower<|end|><|assistant|>", False),
        (thought % 6 + "<|end|>", True),
    ]
    assert len(engine.requests) == 3 and grows(engine, rollout)


def test_thinking_that_the_template_drops_stays_in_the_tokens(policy: Policy) -> None:
    """Prevents: a conversation that is rendered anew, which would train on a past that was never sampled from."""
    policy.tokenizer.chat_template = LIKE_QWEN3
    thought = "<start_working_out>1-9<end_working_out><SOLUTION>%d</SOLUTION>"
    rollout, engine = played(policy, Guess(TAGS), prompt(text="Guess.", low=1, high=9, answer="6"), [thought % 4, thought % 6])
    assert "1-9" not in policy.render_text(rollout.messages[:-1]), "the template does drop it"
    assert policy.tokenizer.decode(engine.requests[1].prompt_ids).count("1-9") == 1


def test_tool_results_are_masked_token_by_token(policy: Policy) -> None:
    """Prevents: a model that learns to write the results of its tools."""
    policy.tokenizer.chat_template, policy.context_length = LIKE_QWEN3, 4096
    environment = ToolUse(TAGS, [find_tool("calculate")])
    give_tools(policy, environment.tools)
    rollout, engine = played(policy, environment, prompt(text="12*7?", answer="84"), SAID)
    wrong = ("Error: calculate raised ValueError: not an expression of whole numbers with + - * / and brackets, or a division by 0")
    assert spoken(policy, rollout) == [
        (SAID[0] + "<|end|>", True), ("<|user|><tool_response>84</tool_response><|end|><|assistant|>", False),
        (SAID[1] + "<|end|>", True), (f"<|user|><tool_response>{wrong}</tool_response><|end|><|assistant|>", False),
        (SAID[2] + "<|end|>", True),
    ]
    assert grows(engine, rollout)
    assert policy.tokenizer.decode(rollout.turns[0].prompt_ids).count('"calculate"') == 1


def test_plain_tools_are_masked_token_by_token(policy: Policy) -> None:
    """Prevents: results that are trained where the template has no role for them (the embedded one)."""
    policy.context_length = 4096
    environment = ToolUse(TAGS, [find_tool("calculate")], is_plain=True)
    give_tools(policy, environment.tools)
    said = ['call: calculate(expression="12*7")', 'call: calculate(expression="1/")', "<SOLUTION>84</SOLUTION>"]
    rollout, engine = played(policy, environment, prompt(text="12*7?", answer="84"), said)
    wrong = "Error: calculate raised ValueError: not an expression of whole numbers with + - * / and brackets, or a division by 0"
    assert spoken(policy, rollout) == [
        (said[0] + "<|end|>", True), ("<|user|>result: 84<|end|><|assistant|>", False),
        (said[1] + "<|end|>", True), (f"<|user|>result: {wrong}<|end|><|assistant|>", False),
        (said[2] + "<|end|>", True),
    ]
    assert grows(engine, rollout)
    assert "calculate" in policy.tokenizer.decode(rollout.turns[0].prompt_ids)


def test_demonstration_has_the_very_tokens_of_the_rollout(policy: Policy) -> None:
    """Prevents: a warm-up that learns a conversation in other tokens than it is sampled in."""
    thought = "<start_working_out>1-9<end_working_out><SOLUTION>%d</SOLUTION>"
    rollout, _ = played(policy, Guess(TAGS), prompt(text="Guess.", low=1, high=9, answer="6"), [thought % 4, thought % 6])
    lesson = Demonstration(prompt=Prompt(id="x", messages=rollout.messages[:-1]), completion=thought % 6)
    sample, first = sample_of(policy, lesson), rollout.turns[0].prompt_ids
    (made,), = make_samples(
        [Group(prompt=rollout.prompt, rollouts=(rollout,))], Weighing(scheme="tokens", max_completion_length=64, keep_all=True),
    )
    assert (*sample.prompt_ids, *sample.token_ids) == (*first, *made.token_ids)
    assert sample.is_trained == (*(False for _ in first[1:]), *made.is_trained)


def test_template_that_knows_no_tools_is_refused(policy: Policy) -> None:
    """Prevents: a model that is to call tools which nobody told it of."""
    with pytest.raises(ConfigError, match="tool_format"):
        give_tools(policy, ToolUse(TAGS, [find_tool("calculate")]).tools)


def test_conversation_ends_before_the_context_does(policy: Policy) -> None:
    """Prevents: an engine that is asked for more than the model can take, in the middle of a run."""
    policy.context_length = 200
    rollout, engine = played(policy, Guess(TAGS, max_turns=9), prompt(text="Guess.", low=1, high=9, answer="6"), ["1" + " " * 50] * 9)
    assert len(rollout.turns) == 2 and rollout.cut and rollout.truncated
    assert rollout.messages[-1]["role"] == "assistant"
    assert all(len(request.prompt_ids) + PARAMS.max_tokens <= 200 for request in engine.requests)


def test_environment_that_opens_with_more_messages_is_refused(policy: Policy) -> None:
    """Prevents: rewards that take the environment's opening for the model's answers."""

    class Opening(Guess):
        def start(self, prompt: Prompt) -> tuple[dict[str, Any], ...]:
            return ({"role": "system", "content": "Play."}, *prompt.messages)

    with pytest.raises(ConfigError, match="starts row"):
        played(policy, Opening(TAGS), prompt(text="Guess.", low=1, high=9, answer="6"), ["1"])
