"""The real `openai` client against a real server: what it sends is understood, what it gets it can read, errors are its own kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from servers import ScriptedEngine, Start
from tinymodels import load_tiny

from heron.engine import NativeEngine, Request, SamplingParams
from heron.serving.model import ServedModel
from heron.serving.server import Server

QUESTION: Any = [{"role": "user", "content": "What is 1 + 1?"}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
WITH_TOOLS = """\
{%- if tools %}{{- "<|system|>" }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- "<|end|>" }}{%- endif %}
{%- for message in messages %}{{- "<|" + ("user" if message.role == "tool" else message.role) + "|>" + message.content }}
{%- for call in message.tool_calls or [] %}{{- "<tool_call>" + (call.function | tojson) + "</tool_call>" }}{%- endfor %}{{- "<|end|>" }}
{%- endfor %}{%- if add_generation_prompt %}{{- "<|assistant|>" }}{%- endif %}
"""


@pytest.fixture
def client(shared: Server) -> Iterator[openai.OpenAI]:
    with client_of(shared) as made:
        yield made


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120)


def expected(model: ServedModel, seed: int, **params: Any) -> str:
    """What the engine alone says."""
    request = Request(prompt_ids=model.policy.render(QUESTION), seeds=(seed,))
    ((completion,),) = NativeEngine(model.policy).generate([request], SamplingParams(**params))
    return model.policy.decode(completion.token_ids)


def test_chat(client: openai.OpenAI, model: ServedModel) -> None:
    """Prevents: a greedy answer that is not the engine's, and fields of the client's types that are missing."""
    answer = client.chat.completions.create(model=model.name, messages=QUESTION, temperature=0, max_completion_tokens=40, logprobs=True)
    (choice,) = answer.choices
    assert choice.message.content == expected(model, 0, max_tokens=40, temperature=0.0)
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert len(choice.logprobs.content) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)  # type: ignore[union-attr]
    assert all(token.logprob <= 0 for token in choice.logprobs.content)
    assert [entry.id for entry in client.models.list()] == [model.name]


def test_filters_and_stops_are_obeyed(client: openai.OpenAI, model: ServedModel) -> None:
    """Prevents: top_p or a stop that goes nowhere; a stop string that is given out."""
    fields: Any = {"model": model.name, "messages": QUESTION, "seed": 5, "max_tokens": 60}
    whole = client.chat.completions.create(**fields, top_p=0.8).choices[0].message.content
    assert whole == expected(model, 5, max_tokens=60, top_p=0.8) != expected(model, 5, max_tokens=60)
    assert whole
    stop = next(letter for letter in whole[5:] if letter.isascii() and letter not in whole[:5])
    with client.chat.completions.create(**fields, top_p=0.8, stop=[stop], stream=True) as stream:
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert streamed == client.chat.completions.create(**fields, top_p=0.8, stop=stop).choices[0].message.content == whole.split(stop)[0]


def test_a_stream_comes_token_by_token(start: Start, model: ServedModel) -> None:
    """Prevents: a stream that is one chunk at the end."""
    said = (*model.policy.encode("one two three"), *model.policy.end_ids)
    engine = ScriptedEngine(model.policy, lambda prompt: said, pause_s=0.02)
    with client_of(start(replace(model, engine=engine))) as client:
        stream = client.chat.completions.create(
            model=model.name, messages=QUESTION, stream=True, max_tokens=50, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(texts) > 6 and "".join(texts) == "one two three"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == len(said)
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[0].choices[0].delta.role == "assistant"


def test_completions(client: openai.OpenAI, model: ServedModel) -> None:
    """Prevents: a text that goes through the chat template; prompts whose answers are swapped."""
    prompts = ["1 + 1 =", "abc"]
    answer = client.completions.create(model=model.name, prompt=prompts, temperature=0, max_tokens=9, n=2, logprobs=0)
    for number, prompt in enumerate(prompts):
        request = Request(prompt_ids=model.policy.encode(prompt), seeds=(0,))
        ((completion,),) = NativeEngine(model.policy).generate([request], SamplingParams(max_tokens=9, temperature=0.0))
        for choice in answer.choices[2 * number : 2 * number + 2]:
            assert choice.text == model.policy.decode(completion.token_ids)
            assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None
            assert choice.logprobs.token_logprobs == pytest.approx(completion.logprobs[: len(choice.logprobs.token_logprobs)], abs=1e-5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    tokens = client.completions.create(model=model.name, prompt=list(model.policy.encode("abc")), temperature=0, max_tokens=9)
    assert tokens.choices[0].text == answer.choices[2].text
    with client.completions.create(model=model.name, prompt="abc", temperature=0, max_tokens=9, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == tokens.choices[0].text


def test_answers_in_a_schema(client: openai.OpenAI, model: ServedModel) -> None:
    """Prevents: a response_format that is accepted and not kept."""
    schema: dict[str, Any] = {"type": "object", "properties": {"right": {"type": "boolean"}}, "required": ["right"]}
    schema["additionalProperties"] = False
    schema["x-guidance"] = {"whitespace_flexible": False}  # else a random model says white space for ever
    form: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model=model.name, messages=QUESTION, response_format=form, seed=1, max_tokens=200, top_p=0.5)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"right"}


@pytest.fixture
def caller(model: ServedModel, start: Start) -> Iterator[tuple[openai.OpenAI, dict[str, str]]]:
    """A client of a model with a template that tells of tools, which says `answers["next"]`."""
    answers = {"next": ""}
    policy = load_tiny(Path(model.policy.source))
    policy.tokenizer.chat_template = WITH_TOOLS
    engine = ScriptedEngine(policy, lambda prompt: (*policy.encode(answers["next"]), *policy.end_ids))
    with client_of(start(replace(model, policy=policy, engine=engine))) as client:
        yield client, answers


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'


@pytest.mark.parametrize(
    ("said", "thought", "content", "cities"),
    [
        (CALL, None, None, ["Köln"]),
        (f"<think>which city? {CALL}</think>\n\nLet me see.\n{CALL}\n{CALL}", f"which city? {CALL}", "Let me see.\n", ["Köln", "Köln"]),
        ('call: weather(city="Rom")', None, None, ["Rom"]),
        ('Well.\ncall: weather(city="Rom")\nDone.', None, "Well.\nDone.", ["Rom"]),
        ("<start_working_out>hm<end_working_out><SOLUTION>no</SOLUTION>", "hm", "<SOLUTION>no</SOLUTION>", []),
        ('<tool_call>{"name": "weather", </tool_call>', None, '<tool_call>{"name": "weather", </tool_call>', []),
        ('<tool_call>{"name": "bomb", "arguments": {}}</tool_call>', None, '<tool_call>{"name": "bomb", "arguments": {}}</tool_call>', []),
        ("<tool_call>{", None, "<tool_call>{", []),
        ("<think>for ever", "for ever", "", []),
        ("a < b <thin ice\ncall me", None, "a < b <thin ice\ncall me", []),
    ],
)
def test_calls_and_reasoning_are_told_apart(
    caller: tuple[openai.OpenAI, dict[str, str]], model: ServedModel, said: str, thought: str | None, content: str | None, cities: list[str]
) -> None:
    """Prevents: a call inside the reasoning that is carried out, thinking shown as the answer, text that is lost, and a stream that says
    otherwise than a whole answer."""
    client, answers = caller
    answers["next"] = said
    fields: Any = {"model": model.name, "messages": QUESTION, "tools": [WEATHER], "max_tokens": 300}
    choice = client.chat.completions.create(**fields).choices[0]
    calls: Any = choice.message.tool_calls or []
    assert (getattr(choice.message, "reasoning_content", None), choice.message.content) == (thought, content)
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": city} for city in cities]
    assert choice.finish_reason == ("tool_calls" if cities else "stop")
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**fields, stream=True)]
    assert "".join(delta.content or "" for delta in deltas) == (content or "")
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == (thought or "")
    streamed: Any = [call for delta in deltas for call in delta.tool_calls or []]
    assert [(call.index, call.function.name, json.loads(call.function.arguments)) for call in streamed] == [
        (number, "weather", {"city": city}) for number, city in enumerate(cities)
    ]


def test_a_call_and_its_result_come_back(caller: tuple[openai.OpenAI, dict[str, str]], model: ServedModel) -> None:
    """Prevents: a conversation that cannot go on after a call, or arguments that are written as a text within a text."""
    client, answers = caller
    answers["next"] = CALL
    first = client.chat.completions.create(model=model.name, messages=QUESTION, tools=[WEATHER], max_tokens=300).choices[0].message
    messages = [*QUESTION, first.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}]  # type: ignore[index]
    answers["next"] = "It rains."
    last = client.chat.completions.create(model=model.name, messages=messages, tools=[WEATHER], max_tokens=300).choices[0].message
    assert last.content == "It rains."


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"temperature": -1}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "temprature", "unknown_parameter"),
        ({"frequency_penalty": 1}, openai.BadRequestError, "frequency_penalty", "unsupported_value"),
        ({"max_tokens": 100_000}, openai.BadRequestError, None, "context_length_exceeded"),
        ({"max_tokens": 100_000, "stream": True}, openai.BadRequestError, None, "context_length_exceeded"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, "messages[0].role", "invalid_value"),
        ({"model": "gpt-9"}, openai.NotFoundError, "model", "model_not_found"),
        ({"tools": [WEATHER]}, openai.BadRequestError, "tools", "unsupported_value"),
    ],
)
def test_bad_requests_raise_what_the_client_knows(
    client: openai.OpenAI, model: ServedModel, fields: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, code: str
) -> None:
    """Prevents: an answer to something that was not asked, and errors that a program cannot tell apart."""
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": model.name, "messages": QUESTION, "max_tokens": 5} | fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type and str(caught.value.body["message"])  # type: ignore[index, call-overload]


@pytest.mark.slow
def test_sixty_four_at_once_say_what_each_says_alone(client: openai.OpenAI, model: ServedModel) -> None:
    """Prevents: answers lost, mixed up or changed by what else is in flight: ragged lengths, several ways to draw, streams and not."""

    def one(number: int) -> str:
        ways: Any = ({"temperature": 0}, {"temperature": 0.8}, {"top_p": 0.9})
        fields: Any = {"model": model.name, "messages": QUESTION, "seed": number, "max_tokens": 3 + 2 * (number % 23), **ways[number % 3]}
        if number % 2:
            with client.chat.completions.create(**fields, stream=True) as stream:
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        return client.chat.completions.create(**fields).choices[0].message.content or ""

    alone = [one(number) for number in range(64)]
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(one, range(64))) == alone
    assert len(set(alone)) > 30


def test_a_token_is_the_clients_key(start: Start, model: ServedModel) -> None:
    """Prevents: an open model on the network."""
    server = start(model, token="secret")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as client:
        assert client.models.list().data
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
