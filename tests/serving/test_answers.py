"""Answers in OpenAI's form are read while another thread writes them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from servers import ASK

from heron.engine import SamplingParams
from heron.engine.native.sequence import Sequence, new_sequence
from heron.serving.answers import Chat, Reply, Text
from heron.serving.model import ServedModel
from heron.serving.requests import parse_chat, parse_text
from heron.serving.speech import Speech, Splitter
from heron.types import FinishReason


@pytest.mark.parametrize("kind", [Chat, Text])
def test_the_last_token_may_be_read_before_it_is_known_to_be_the_last(model: ServedModel, kind: type[Reply]) -> None:
    """Prevents: a stream without an end: the engine notes a token first, and that it was the last one a little later."""
    reply, one = reply_of(model, kind), new_sequence(0, 0, (1,), 0, None)
    say(one, model, "fine")
    events = reply.news([one])
    assert reply.news([one]) == []
    one.finish_reason = FinishReason.STOP
    events += reply.news([one])
    assert all(speech.has_ended for speech in reply.speeches) and reply.news([one]) == []
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert "".join(choice["delta"].get("content", "") if kind is Chat else choice["text"] for choice in choices) == "fine"


def test_a_long_stop_string_costs_no_more_than_the_answer(model: ServedModel) -> None:
    """Prevents: one request that keeps the server busy for minutes with a stop string of a megabyte, and with it everybody else."""
    text = "a" * 300
    params = SamplingParams(max_tokens=400, stop=("a" * 1_000_000, "ab"))
    speech = Speech(model.policy, params.stop, Splitter(model.policy.tags, is_plain=True))
    one, began = new_sequence(0, 0, (1,), 0, None), time.perf_counter()
    said = ""
    for token in model.policy.encode(text):
        one.say(token, -1.0, 0.0, 0)
        said += "".join(piece.text for piece in speech.read(one))
    one.finish_reason = FinishReason.LENGTH
    said += "".join(piece.text for piece in speech.read(one))
    assert said == text and time.perf_counter() - began < 5


def reply_of(model: ServedModel, kind: type[Reply], **fields: Any) -> Reply:
    if kind is Chat:
        asked = parse_chat(ASK | fields, model=model.name)
        return Chat(model, asked, model.question(asked))
    text = parse_text({"prompt": "What", "max_tokens": 6} | fields, model=model.name)
    return Text(model, text, model.beginnings(text))


def say(one: Sequence, model: ServedModel, text: str) -> None:
    for token in model.policy.encode(text):
        one.say(token, -1.0, 0.0, 0)
