"""Environments: one loop drives them all."""

import pytest

from heron.environments import Environment, Retry, SingleTurn
from heron.errors import ConfigError, DataError
from heron.rewards import verifiers
from heron.types import Message, Prompt, Tags

PROMPT = Prompt(id="rows:1", messages=({"role": "user", "content": "2 + 3?"},), columns={"answer": "5"})


def play(environment: Environment, prompt: Prompt, answers: list[str]) -> tuple[Message, ...]:
    """The loop of whoever drives an environment, with a scripted model."""
    messages = environment.start(prompt)
    for turn, answer in enumerate(answers, 1):
        messages = (*messages, {"role": "assistant", "content": answer})
        if turn in (len(answers), environment.max_turns) or environment.done(prompt, messages):
            break
        messages = (*messages, *environment.step(prompt, messages))
    return messages


def test_single_turn_is_one_question_and_one_answer() -> None:
    """Prevents: a second turn where none was asked for."""
    messages = play(SingleTurn(), PROMPT, ["5"])
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert SingleTurn().done(PROMPT, messages)


@pytest.mark.parametrize(
    ("answers", "roles"),
    [
        (["<SOLUTION>5</SOLUTION>"], ["user", "assistant"]),
        (["<SOLUTION>6</SOLUTION>", "<SOLUTION>5</SOLUTION>"], ["user", "assistant", "user", "assistant"]),
        (["five", "<SOLUTION>6</SOLUTION>"], ["user", "assistant", "user", "assistant"]),
    ],
)
def test_retry_replies_to_wrong_answers_alone(answers: list[str], roles: list[str]) -> None:
    """Prevents: a right answer that is asked for again, an endless conversation."""
    assert [message["role"] for message in play(Retry(Tags()), PROMPT, answers)] == roles


def test_retry_tells_wrong_from_unreadable_and_never_the_answer() -> None:
    """Prevents: a reply that gives the reference away."""
    wrong = play(Retry(Tags()), PROMPT, ["<SOLUTION>6</SOLUTION>", ""])[2]["content"]
    unreadable = play(Retry(Tags()), PROMPT, ["6", ""])[2]["content"]
    assert wrong != unreadable and "5" not in wrong + unreadable


def test_retry_uses_the_verifier_and_turns_it_is_given() -> None:
    """Prevents: text answers compared as numbers."""
    prompt = Prompt(id="rows:2", messages=PROMPT.messages, columns={"answer": "Paris"})
    environment = Retry(Tags(), verifier=verifiers["exact"], max_turns=3)
    said = ["<SOLUTION>Rome</SOLUTION>", "<SOLUTION>Oslo</SOLUTION>", "<SOLUTION>Paris</SOLUTION>"]
    assert len(play(environment, prompt, said)) == 6


def test_retry_refuses_what_it_cannot_do() -> None:
    """Prevents: a row without reference that fails in the middle of a rollout."""
    with pytest.raises(DataError, match="rows:3"):
        Retry(Tags()).start(Prompt(id="rows:3", messages=PROMPT.messages))
    with pytest.raises(ConfigError, match="max_turns"):
        Retry(Tags(), max_turns=1)
