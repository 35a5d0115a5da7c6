"""The server over real HTTP: the OpenAI shape, clear refusals, and who may talk to it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinymodels import load_tiny, stir_adapter

from heron.config import load_config, to_toml
from heron.data.templates import TEMPLATES
from heron.engine import NativeEngine, Request, SamplingParams, ScriptedEngine
from heron.errors import ConfigError, RunError
from heron.run import RunWriter
from heron.serving import ChatModel, make_server, open_model, serve
from heron.serving.server import Server

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 6, "seed": 3}


@pytest.fixture(scope="module")
def model(tiny_folder: Callable[[str], Path]) -> ChatModel:
    return open_model(tiny_folder("qwen3"))


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers and ends them after the test."""
    started: list[Server] = []

    def run(model: ChatModel, **options: Any) -> Server:
        server = make_server(model, port=0, **options)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield run
    for server in started:
        server.shutdown()
        server.server_close()


def call(
    server: Server, path: str = "/v1/chat/completions", body: Any = None, *, method: str | None = None, **headers: str
) -> tuple[int, str]:
    """Status and text of one request; a body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    wanted = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if body is None else "POST"), path, content, wanted)
    response = connection.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        connection.close()


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    status, text = call(server, body=ASK | fields)
    assert status == 200, text
    return json.loads(text)


def refusal(server: Server, **fields: Any) -> tuple[int, dict[str, Any]]:
    status, text = call(server, body=ASK | fields)
    return status, json.loads(text)["error"]


def test_an_answer_is_what_the_engine_samples(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: a server with its own template, its own sampler, or a temperature that goes nowhere."""
    server = start(model)
    for temperature in (0.0, 0.7):
        answer = ask(server, temperature=temperature)
        prompt_ids = model.policy.render(ASK["messages"])
        params = SamplingParams(max_tokens=6, temperature=temperature)
        ((expected,),) = NativeEngine(model.policy).generate([Request(prompt_ids=prompt_ids, seeds=(3,))], params)
        choice = answer["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": model.policy.decode(expected.token_ids)}
        assert choice["finish_reason"] == expected.finish_reason
        spoken = len(expected.token_ids)
        assert answer["usage"] == {
            "prompt_tokens": len(prompt_ids), "completion_tokens": spoken, "total_tokens": len(prompt_ids) + spoken,
        }
    assert (answer["object"], answer["model"]) == ("chat.completion", model.name)


def test_siblings_differ_and_a_seed_repeats_them(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: n copies of one answer, and a seed that is ignored."""
    server = start(model)
    first, again, other = ask(server, n=3), ask(server, n=3), ask(server, n=3, seed=50)
    texts = [[choice["message"]["content"] for choice in answer["choices"]] for answer in (first, again, other)]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 3
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]


def test_a_stream_says_the_same_and_ends(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: clients that wait for `[DONE]`, for the reason, or for the usage that they asked for."""
    server = start(model)
    whole = ask(server)
    status, text = call(server, body=ASK | {"stream": True, "stream_options": {"include_usage": True}})
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert status == 200 and lines[-1] == "[DONE]"
    assert "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]) == (
        whole["choices"][0]["message"]["content"]
    )
    assert chunks[1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"] and {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_text_parts_are_one_text(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: refusing the form in which some clients send every message."""
    server = start(model)
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]
    assert ask(server, messages=[{"role": "user", "content": parts}])["choices"] == ask(server)["choices"]


def test_a_prefilled_tag_is_part_of_the_answer(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: an answer whose reasoning is closed but never opened."""
    said = model.policy.encode("2<end_working_out>")
    policy = load_tiny(Path(model.policy.source))
    policy.tokenizer.chat_template = TEMPLATES["reasoning"]
    scripted = replace(model, policy=policy, engine=ScriptedEngine(lambda prompt, sibling: said))
    answer = ask(start(scripted), max_tokens=50)
    assert answer["choices"][0]["message"]["content"] == "<start_working_out>2<end_working_out>"


def test_concurrent_requests_take_turns(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: two threads in one model."""
    inside, most = [], []

    def script(prompt: tuple[int, ...], sibling: int) -> tuple[int, ...]:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.pop()
        return (5,)

    server = start(replace(model, engine=ScriptedEngine(script), lock=threading.Lock()))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(server), range(4)))
    assert most == [1, 1, 1, 1]


def test_models_and_health(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: clients that list models first, and supervisors, finding nothing."""
    server = start(model)
    assert json.loads(call(server, "/v1/models")[1])["data"][0]["id"] == model.name
    assert json.loads(call(server, "/health?x=1")[1]) == {"status": "ok", "model": model.name}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [{"content": "hi"}]}, "messages[0]", "role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0]", "text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]", "text parts"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages[0]", "tool_calls"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "wizard"),
        ({"temperature": -1}, "temperature", "-1"),
        ({"temperature": True}, "temperature", "True"),
        ({"temperature": 1e-9}, "temperature", "0 or a number from 1e-06 to 100"),
        ({"temperature": float("nan")}, "temperature", "nan"),
        ({"messages": [{"role": "user", "content": "a\udc80"}]}, "messages[0]", "half a character"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}]}, "messages[0]", "half a character"),
        ({"messages": [{"role": "user\udc80", "content": "a"}]}, "messages[0].role", "half a character"),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, None, "Shorten the prompt."),
        ({"n": 0}, "n", "from 1 to 64"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"max_tokens": 2.5}, "max_tokens", "2.5"),
        ({"seed": -1}, "seed", "-1"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"x": 1}}, "stream_options", "include_usage"),
        ({"top_p": 0.9}, "top_p", "not supported"),
        ({"stop": ["."]}, "stop", "not supported"),
        ({"temprature": 1}, "temprature", 'Did you mean "temperature"'),
        ({"max_tokens": 10_000}, None, "or ask for fewer new tokens"),
    ],
)
def test_bad_requests_are_refused_by_name(
    model: ChatModel, start: Callable[..., Server], fields: dict[str, Any], param: str | None, words: str
) -> None:
    """Prevents: an answer to something that was not asked, or a stack trace."""
    status, error = refusal(start(model), **fields)
    assert status == 400 and error["param"] == param and words in error["message"]


def test_what_changes_nothing_is_accepted(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: refusing clients that always send every field."""
    ask(start(model), top_p=1.0, frequency_penalty=0, stop=None, user="me", tools=[], model=model.name, n=None)


def test_another_model_is_not_found(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: answering for a model that is not here."""
    assert refusal(start(model), model="gpt-9")[0] == 404


def test_transport_errors_are_json_too(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: HTML or a dropped connection where a client expects an error it can print."""
    server = start(model)
    assert call(server, body=b"{oops")[0] == 400
    assert call(server, body=b"[" * 100_000)[0] == 400
    assert call(server, body=b"3")[0] == 400
    assert call(server, body=b"{}", Content_Type="text/plain")[0] == 415
    assert call(server, body=b"{}", Content_Length=str(5 * 2**20))[0] == 413
    assert call(server, "/v1/nothing")[0] == 404
    assert call(server, "/v1/chat/completions")[0] == 405
    assert "error" in json.loads(call(server, "/health", body={})[1])


def test_a_failing_engine_is_a_500_and_the_server_goes_on(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: one bad request that ends the server, or keeps the lock."""
    answers = iter([None])

    def script(prompt: tuple[int, ...], sibling: int) -> tuple[int, ...]:
        if next(answers, 1) is None:
            raise ZeroDivisionError("out of luck")
        return (5,)

    server = start(replace(model, engine=ScriptedEngine(script), lock=threading.Lock()))
    status, error = refusal(server)
    assert status == 500 and "out of luck" in error["message"]
    ask(server)


def test_a_web_page_cannot_reach_the_loopback_server(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: a page whose name was made to point at 127.0.0.1, and one that posts without asking."""
    server = start(model)
    assert call(server, "/v1/models", Host="evil.example:8000")[0] == 403
    assert call(server, "/v1/models", Host="localhost:8000")[0] == 200
    assert call(server, "/v1/models", Host="[::1]:8000")[0] == 200
    assert call(server, method="OPTIONS", body=b"")[0] == 501


def test_a_token_is_required_when_there_is_one(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: an open model on the network."""
    server = start(model, host="0.0.0.0", token="secret")
    assert call(server, "/v1/models")[0] == 401
    assert call(server, "/v1/models", Authorization="Bearer wrong")[0] == 401
    assert call(server, "/v1/models", Authorization="Bearer secret", Host="box.example")[0] == 200
    assert call(server, "/health")[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [({"host": "0.0.0.0"}, "token is required"), ({"port": 70000}, "70000"), ({"token": " "}, "not empty")],
)
def test_an_unsafe_server_is_refused_before_the_model_is_loaded(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Prevents: a listener beyond this machine that anybody may use, and a wait before the error."""
    with pytest.raises(ConfigError, match=words):
        serve(tmp_path / "no such model", **options)


def test_a_taken_port_says_so(model: ChatModel, start: Callable[..., Server]) -> None:
    """Prevents: a bare OSError."""
    taken = start(model).server_address[1]
    with pytest.raises(ConfigError, match="another port"):
        make_server(model, port=taken)


def test_a_run_and_an_adapter_folder_are_opened(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: serving the base instead of what was trained, or the default length instead of the run's."""
    base = tiny_folder("qwen3")
    policy = load_tiny(base, method="lora", lora_rank=4)
    stir_adapter(policy)
    settings = {"name": str(base), "method": "lora", "lora_rank": 4, "device": "cpu"}
    config = load_config("arithmetic", {"model": settings, "rollout": {"max_completion_length": 9}})
    writer = RunWriter.create(tmp_path / "run", config_toml=to_toml(config), manifest={"start_model": str(base)})
    policy.save(tmp_path / "run" / "model")
    writer.close()
    request = Request(prompt_ids=policy.render(ASK["messages"]), seeds=(0,))
    greedy = SamplingParams(max_tokens=9, temperature=0.0)
    expected = NativeEngine(policy).generate([request], greedy)
    run, folder = open_model(tmp_path / "run"), open_model(tmp_path / "run" / "model")
    assert run.engine.generate([request], greedy) == folder.engine.generate([request], greedy) == expected
    assert (run.name, run.max_tokens, folder.max_tokens) == ("run", 9, 512)
    with pytest.raises(RunError, match="neither a run"):
        open_model(tmp_path)
