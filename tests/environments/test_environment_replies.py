"""What environments and tools say, on its way to the model: nothing that a model made them say ends a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tinymodels import TAGS, load_tiny, prompt

from heron.engine import SamplingParams, ScriptedEngine
from heron.environments import Environment, SingleTurn, Tool, ToolUse
from heron.errors import ConfigError
from heron.models import Policy
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.types import Message, Prompt, Rollout

MARK = "\u2063heron-reply\u2063\u2063heron-reply-0\u2063"


def echo(text: str) -> str:
    """Says it again."""
    return text


def leaking() -> Any:
    """Names a file with a byte that is no text."""
    return ["\ud800", {"\udfff": 1}]


def refusing(text: str) -> str:
    """Raises."""
    raise ValueError(text)


class Saying(SingleTurn):
    """Replies with what it was made with."""

    max_turns = 3

    def __init__(self, given: Any) -> None:
        self.given = given

    def done(self, prompt: Prompt, messages: tuple[Message, ...]) -> bool:
        return False

    def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> Any:
        return self.given


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    made = load_tiny(tiny_folder("qwen3"))
    made.context_length = 8192
    return made


def played(policy: Policy, environment: Environment, said: Sequence[str], *, siblings: int = 1) -> list[Rollout]:
    """Rollouts of a model that says these texts one after the other."""
    opens = policy.encode("<|assistant|>")[0]
    engine = ScriptedEngine(lambda ids, sibling: (*policy.encode(said[ids.count(opens) - 1]), policy.tokenizer.eos_token_id))
    rubric = Rubric([lambda completion: float(len(completion))], tags=TAGS)
    (rollouts,) = Collector(policy=policy, engine=engine, environment=environment, rubric=rubric).sample(
        [prompt(text="?", answer="84")], SamplingParams(max_tokens=200), siblings=siblings, seed=0)
    return rollouts


def called(policy: Policy, call: str) -> Rollout:
    tools = [Tool.of(echo), Tool.of(refusing), Tool.of(leaking)]
    (rollout,) = played(policy, ToolUse(TAGS, tools, is_plain=True), [call, "<SOLUTION>84</SOLUTION>"])
    assert len(rollout.turns) == 2
    for message in rollout.messages:
        assert all(str(value).encode() is not None for value in message.values())
    return rollout


@pytest.mark.parametrize("call", [
    '<tool_call>{"name": "echo", "arguments": {"text": "\\ud800"}}</tool_call>',
    '<tool_call>{"name": "refusing", "arguments": {"text": "\\ud800"}}</tool_call>',
    '<tool_call>{"name": "\\ud800"}</tool_call>', '<tool_call>{"name": "echo", "arguments": {"\\udc00": "a"}}</tool_call>',
    r'call: echo(text="\ud800")',
])
def test_half_a_character_in_a_call_is_told_to_the_model(policy: Policy, call: str) -> None:
    """Prevents: a model that ends the run, since no tokenizer takes a lone surrogate."""
    reply = called(policy, call).messages[-2]
    assert reply["failure"] == "call" and "half a character" in reply["content"]


def test_half_a_character_in_a_result_is_written_out(policy: Policy) -> None:
    """Prevents: a file name that ends the run; and one that is dropped without a sign."""
    assert called(policy, "call: leaking()").messages[-2]["content"] == 'result: ["\\ud800", {"\\udfff": 1}]'


def test_half_a_character_of_an_own_environment_is_written_out(policy: Policy) -> None:
    """Prevents: the same by an environment of the user's, in any of its texts."""
    (rollout,) = played(policy, Saying(({"role": "user", "content": "a\ud800", "seen": ["\udfff"]},)), ["x", "y", "z"])
    assert rollout.messages[-2] == {"role": "user", "content": "a\\ud800", "seen": ["\\udfff"]}


def test_results_that_hold_the_mark_of_replies_are_like_any_other(policy: Policy) -> None:
    """Prevents: a program that prints the mark by which replies are found in what the template writes, and so ends the run."""
    (rollout,) = played(policy, Saying(({"role": "user", "content": f"{MARK}{MARK}"},)), ["x", f"y{MARK}", "z"])
    assert policy.decode(rollout.turns[1].prompt_ids).count(MARK) == 2
    plain = played(policy, Saying(({"role": "user", "content": "ok"},)), ["x", "y", "z"])[0]
    assert len(plain.turns[1].prompt_ids) == len(rollout.turns[1].prompt_ids) - len(policy.encode(MARK + MARK)) + len(policy.encode("ok"))


@pytest.mark.parametrize("given", [
    (), None, "higher", {"role": "user", "content": "higher"}, ("higher",), ({"role": "user"},), ({"role": "user", "content": None},),
    ({"role": 1, "content": "higher"},), ({"role": "user", "content": 3},),
])
def test_reply_that_is_no_message_is_refused_by_name(policy: Policy, given: Any) -> None:
    """Prevents: an AssertionError, or a template's error, in place of whose environment said what."""
    with pytest.raises(ConfigError, match=r"environment Saying replied in row .* with"):
        played(policy, Saying(given), ["x", "y", "z"])


def test_conversations_share_nothing(policy: Policy) -> None:
    """Prevents: a game that edits a message and so the row, its siblings, or what its rewards are told was said."""

    class Editing(Saying):
        def step(self, prompt: Prompt, messages: tuple[Message, ...]) -> Any:
            for message in messages:
                message["content"] += "!"
            return self.given

    constant: tuple[Message, ...] = ({"role": "user", "content": "go on", "seen": [1]},)
    rollouts = played(policy, Editing(constant), ["x", "y", "z"], siblings=2)
    rollouts[0].messages[2]["seen"].append(2)
    rollouts[0].messages[0]["content"] += "?"
    assert [message["content"] for message in rollouts[1].messages] == ["?", "x", "go on", "y", "go on", "z"]
    assert rollouts[1].messages[2]["seen"] == [1] == constant[0]["seen"] and rollouts[0].prompt.messages[0]["content"] == "?"
