"""Turns of a conversation in this process: what the server would say, what the model has been told, and what is left when it is stopped."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from servers import ScriptedSession, ask
from tinymodels import load_tiny

from heron.cli.talk import Talk
from heron.data.templates import TEMPLATES
from heron.engine import SamplingParams
from heron.serving.conversation import Conversation
from heron.serving.model import ServedModel
from heron.serving.server import Server

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture
def conversation(tiny_folder: Callable[[str], Path]) -> Conversation:
    params = SamplingParams(max_tokens=20, temperature=0.0)
    return Conversation(policy=load_tiny(tiny_folder("qwen3")), opening=(SYSTEM,), params=params)


def said(conversation: Conversation, question: str) -> str:
    return "".join(piece.text for piece in conversation.say(question))


def test_a_turn_is_what_the_server_says(conversation: Conversation, model: ServedModel, shared: Server) -> None:
    """Prevents: a chat that differs from the server, a system prompt that is lost, and turns that the model is not told of."""
    messages: list[Any] = [SYSTEM]
    for question in ("1 + 1?", "and 2 + 2?"):
        messages.append({"role": "user", "content": question})
        served = ask(shared, messages=messages, max_tokens=20, temperature=0)["choices"][0]["message"]["content"]
        assert said(conversation, question) == served
        messages.append({"role": "assistant", "content": served})
    assert conversation.turns == messages[1:]
    alone = ask(shared, messages=[SYSTEM, {"role": "user", "content": "1 + 1?"}], max_tokens=20, temperature=0)
    assert conversation.ask("1 + 1?") == alone["choices"][0]["message"]["content"]
    conversation.reset()
    assert said(conversation, "1 + 1?") == alone["choices"][0]["message"]["content"]


def test_a_step_that_fails_costs_one_answer(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a conversation that goes on in a session that may be in any state, and fails for ever."""
    said(conversation, "What is 1 + 1?")
    conversation.reset()
    session, expected = conversation._session, said(conversation, "What is 2 + 2?")
    assert session is not None and conversation._session is session
    conversation.reset()
    monkeypatch.setattr(session.runner, "decode", lambda branches: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        said(conversation, "What is 2 + 2?")
    conversation.reset()
    assert said(conversation, "What is 2 + 2?") == expected and conversation._session is not session


def test_who_stops_listening_keeps_what_was_said(conversation: Conversation) -> None:
    """Prevents: a conversation that forgets a stopped answer, or a session that goes on with it."""
    pieces = conversation.say("1 + 1?")
    heard = [next(pieces).text for _ in range(3)]
    pieces.close()  # type: ignore[attr-defined]
    assert conversation._session is not None and conversation._session.is_idle
    assert conversation.turns[-1]["content"].startswith("".join(heard)) and len(conversation.turns) == 2
    assert said(conversation, "and?")


class Terminal:
    """Types lines, and reads what is shown."""

    def __init__(self, conversation: Conversation, answer: str) -> None:
        policy = conversation.policy
        self.shown = io.StringIO()
        tokens = [*policy.encode(answer), *policy.end_ids]
        conversation._session = ScriptedSession(lambda prompt: tokens)  # type: ignore[assignment]
        self.talk = Talk({"trained": conversation}, Console(file=self.shown, width=100))

    def types(self, *lines: str | type[BaseException]) -> str:
        typed: Iterator[Any] = iter([*lines, None])

        def read() -> str | None:
            line = next(typed)
            if isinstance(line, type):
                raise line
            return line  # type: ignore[no-any-return]

        self.talk.run(read)
        return self.shown.getvalue()


@pytest.fixture
def thinker(conversation: Conversation) -> Conversation:
    conversation.policy.tokenizer.chat_template = TEMPLATES["heron-reasoning"]
    conversation.params = SamplingParams(max_tokens=300)
    return conversation


THOUGHTFUL = "I add.<end_working_out>\x1b[31m2"


def test_thinking_is_folded_until_it_is_asked_for(thinker: Conversation) -> None:
    """Prevents: pages of thinking before every answer, thinking that cannot be seen, and a model that colours the terminal."""
    shown = Terminal(thinker, THOUGHTFUL).types("1 + 1?", "/thinking", "again?")
    folded, _, rest = shown.partition("Thinking is shown.")
    count = len(thinker.policy.encode("I add.<end_working_out>"))
    assert f"thought for {count} tokens" in folded and "I add." not in folded and "␛[31m2" in folded
    assert rest.count("I add.") == 2 and "\x1b" not in shown


def test_commands(thinker: Conversation) -> None:
    """Prevents: a command that is told to the model, and a reset that resets nothing."""
    shown = Terminal(thinker, THOUGHTFUL).types("1 + 1?", "/reset", "/restet", "/help", KeyboardInterrupt, "/quit", "never read")
    assert thinker.turns == [] and "There is no command /restet. Did you mean" in shown and shown.count("begin the conversation anew") == 2
    assert "An empty line or /quit ends." in shown and shown.count("tokens") == 1


def test_ctrl_c_stops_the_answer_alone(thinker: Conversation) -> None:
    """Prevents: a program that ends where only an answer was to be stopped."""
    terminal = Terminal(thinker, THOUGHTFUL)
    session: Any = thinker._session
    step, steps = session.step, []

    def interrupted() -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step()

    session.step = interrupted
    shown = terminal.types("1 + 1?")
    assert "(stopped)" in shown and thinker.turns[-1]["content"].endswith("I ")
    assert thinker._session is None  # it was amid a step


def test_what_cannot_be_answered_is_said(thinker: Conversation) -> None:
    """Prevents: a conversation that ends with a traceback when its context is full, or at bytes that are no text."""
    shown = Terminal(thinker, THOUGHTFUL).types("caf\udce9")
    assert "not UTF-8" in shown
    thinker._session = None
    full = io.StringIO()
    Talk({"trained": thinker}, Console(file=full, width=100)).run(iter(["x" * 600, None]).__next__)
    assert "Shorten the prompt" in full.getvalue() and "/reset" in full.getvalue()
