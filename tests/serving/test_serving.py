"""The server over real HTTP: the OpenAI shape, clear refusals, and who may talk to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import ASK, CHAT, ScriptedEngine, Start, ask, call, refusal
from tinymodels import load_tiny, stir_adapter
from typer.testing import CliRunner

from heron.cli.main import app
from heron.config import load_config, to_toml
from heron.data.templates import TEMPLATES
from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import ConfigError, RunError
from heron.run import RunWriter
from heron.serving import serve
from heron.serving.model import ServedModel, open_model
from heron.serving.requests import parse_chat
from heron.serving.server import Server, make_server

ONE_TOOL = [{"type": "function", "function": {"name": "f"}}]


def test_an_answer_is_what_the_engine_samples(model: ServedModel, shared: Server) -> None:
    """Prevents: a server with its own template, its own sampler, or a temperature that goes nowhere."""
    server = shared
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


def test_siblings_differ_and_a_seed_repeats_them(model: ServedModel, shared: Server) -> None:
    """Prevents: n copies of one answer, and a seed that is ignored."""
    server = shared
    first, again, other = ask(server, n=3), ask(server, n=3), ask(server, n=3, seed=50)
    texts = [[choice["message"]["content"] for choice in answer["choices"]] for answer in (first, again, other)]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 3
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]


def test_a_stream_says_the_same_and_ends(model: ServedModel, shared: Server) -> None:
    """Prevents: clients that wait for `[DONE]`, for the reason, or for the usage that they asked for; and text that a stream loses."""
    fields = {"max_tokens": 60, "n": 2}
    whole = ask(shared, **fields)
    status, text = call(shared, body=ASK | fields | {"stream": True, "stream_options": {"include_usage": True}})
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert status == 200 and lines[-1] == "[DONE]"
    for choice in whole["choices"]:
        own = [other for other in choices if other["index"] == choice["index"]]
        assert "".join(other["delta"].get("content", "") for other in own) == choice["message"]["content"]
        assert [other["finish_reason"] for other in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["usage"] == whole["usage"] and {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_text_parts_are_one_text(shared: Server) -> None:
    """Prevents: refusing the form in which some clients send every message."""
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]
    assert ask(shared, messages=[{"role": "user", "content": parts}])["choices"] == ask(shared)["choices"]


def test_a_prefilled_tag_opens_the_reasoning(model: ServedModel, start: Start) -> None:
    """Prevents: reasoning that is closed but was never opened, shown as the answer."""
    said = (*model.policy.encode("so 2<end_working_out><SOLUTION>2</SOLUTION>"), *model.policy.end_ids)
    policy = load_tiny(Path(model.policy.source))
    policy.tokenizer.chat_template = TEMPLATES["reasoning"]
    answer = ask(start(replace(model, policy=policy, engine=ScriptedEngine(policy, lambda prompt: said))), max_tokens=50)
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("so 2", "<SOLUTION>2</SOLUTION>")


def test_models_and_health(model: ServedModel, shared: Server) -> None:
    """Prevents: clients that list models first, and supervisors, finding nothing."""
    assert json.loads(call(shared, "/v1/models")[1])["data"][0]["id"] == model.name
    assert json.loads(call(shared, f"/v1/models/{model.name}")[1])["id"] == model.name
    assert call(shared, "/v1/models/other")[0] == 404
    health = json.loads(call(shared, "/health?x=1")[1])
    assert (health["status"], health["model"], health["in_flight"], health["places"]) == ("ok", model.name, 0, 64 + 256)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [{"content": "hi"}]}, "messages[0]", "role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0]", "text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]", "text parts"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages[0]", "tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]", "function"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "wizard"),
        ({"temperature": -1}, "temperature", "-1"),
        ({"temperature": True}, "temperature", "True"),
        ({"temperature": 1e-9}, "temperature", "0 or a number from 1e-06 to 100"),
        ({"temperature": float("nan")}, "temperature", "nan"),
        ({"messages": [{"role": "user", "content": "a\udc80"}]}, "messages[0]", "half a character"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}]}, "messages[0]", "half a character"),
        ({"messages": [{"role": "user\udc80", "content": "a"}]}, "messages[0].role", "must be one of"),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, None, "Shorten the prompt."),
        ({"n": 0}, "n", "from 1 to 64"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"max_tokens": 2.5}, "max_tokens", "2.5"),
        ({"seed": -1}, "seed", "-1"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"x": 1}}, "stream_options", "include_usage"),
        ({"top_p": 0}, "top_p", "1e-06 to 1"),
        ({"stop": [""]}, "stop", "not empty"),
        ({"stop": ["a"] * 17}, "stop", "up to 16"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"top_logprobs": 3, "logprobs": True}, "top_logprobs", "not supported"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "not supported"),
        ({"parallel_tool_calls": False, "tools": ONE_TOOL}, "parallel_tool_calls", "more than one"),
        ({"max_completion_tokens": 3}, "max_completion_tokens", "different things"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}}, None, "cannot be used"),
        ({"tools": ONE_TOOL}, "tools", "no tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0]", "function"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 50_000]}}}}, "response_format", "shorter"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, None, "could not be followed"),
        ({"stop": ["x", "y" * 1001]}, "stop", "up to 1000 characters"),
        ({"x" * 100_000: 1}, "x" * 80, "There is no field"),
        ({"tools": "f"}, "tools", "list"),
        ({"tool_choice": "required"}, "tool_choice", "forced"),
        ({"temprature": 1}, "temprature", 'Did you mean "temperature"'),
        ({"max_tokens": 10_000}, None, "or ask for fewer new tokens"),
    ],
)
def test_bad_requests_are_refused_by_name(shared: Server, fields: dict[str, Any], param: str | None, words: str) -> None:
    """Prevents: an answer to something that was not asked, or a stack trace."""
    status, error = refusal(shared, **fields)
    assert status == 400 and error["param"] == param and words in error["message"] and len(error["message"]) < 2000


def test_a_text_of_megabytes_is_not_encoded_to_its_end(model: ServedModel, shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: half a minute of encoding for an answer that is refused, for which everybody else waits; and refusing what fits."""
    encoded: list[int] = []
    encode = model.policy.encode
    monkeypatch.setattr(model.policy, "encode", lambda text: encoded.append(len(text)) or encode(text))
    long = "x" * 4_000_000
    for path, body in ((CHAT, {"messages": [{"role": "user", "content": long}]}), ("/v1/completions", {"prompt": long})):
        status, text = call(shared, path, body=body)
        assert status == 400 and json.loads(text)["error"]["code"] == "context_length_exceeded"
    assert encoded == [8 * 512] * 2
    monkeypatch.setattr(model.policy, "encode", lambda text: encode(text)[:5])  # of few, long tokens
    assert model.question(parse_chat({"messages": [{"role": "user", "content": "x" * 9 * 512}]}, model=model.name)).prompt_ids


def test_a_developer_is_the_system(shared: Server) -> None:
    """Prevents: instructions under OpenAI's newer name of the role that a template leaves out, or refuses."""
    told = [[{"role": role, "content": "Be brief."}, *ASK["messages"]] for role in ("system", "developer")]
    assert ask(shared, messages=told[0])["choices"] == ask(shared, messages=told[1])["choices"]
    assert ask(shared, messages=told[1])["usage"] != ask(shared)["usage"]


def test_what_changes_nothing_is_accepted(model: ServedModel, shared: Server) -> None:
    """Prevents: refusing clients that always send every field."""
    ask(shared, top_p=1.0, frequency_penalty=0, stop=None, user="me", tools=[], model=model.name, n=None)
    ask(shared, parallel_tool_calls=False)
    ask(shared, parallel_tool_calls=False, tools=ONE_TOOL, tool_choice="none")


def test_another_model_is_not_found(model: ServedModel, shared: Server) -> None:
    """Prevents: answering for a model that is not here."""
    assert refusal(shared, model="gpt-9")[0] == 404


def test_transport_errors_are_json_too(shared: Server) -> None:
    """Prevents: HTML or a dropped connection where a client expects an error it can print."""
    assert call(shared, body=b"{oops")[0] == 400
    assert call(shared, body=b"[" * 100_000)[0] == 400
    assert call(shared, body=b"3")[0] == 400
    assert call(shared, body=b"{}", Content_Type="text/plain")[0] == 415
    assert call(shared, body=b"{}", Content_Length=str(5 * 2**20))[0] == 413
    assert call(shared, "/v1/nothing")[0] == 404
    assert call(shared, "/v1/chat/completions")[0] == 405
    assert "error" in json.loads(call(shared, "/health", body={})[1])


def test_a_web_page_cannot_reach_the_loopback_server(model: ServedModel, shared: Server) -> None:
    """Prevents: a page whose name was made to point at 127.0.0.1, and one that posts without asking."""
    server = shared
    assert call(server, "/v1/models", Host="evil.example:8000")[0] == 403
    assert call(server, "/v1/models", Host="localhost:8000")[0] == 200
    assert call(server, "/v1/models", Host="[::1]:8000")[0] == 200
    assert call(server, method="OPTIONS", body=b"")[0] == 405
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://localhost.evil.example", 403),
                           ("http://localhost:3000", 200), ("http://[::1]:3000", 200)):
        assert call(server, "/v1/models", Origin=origin)[0] == status, origin


def test_a_token_is_required_when_there_is_one(model: ServedModel, start: Start) -> None:
    """Prevents: an open model on the network."""
    server = start(model, host="0.0.0.0", token="secret")
    assert call(server, "/v1/models")[0] == 401
    assert call(server, "/v1/models", Authorization="Bearer wrong")[0] == 401
    assert call(server, "/v1/models", Authorization="Bearer secret", Host="box.example")[0] == 200
    assert call(server, "/health")[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [({"host": "0.0.0.0"}, "token is required.*--token-file FILE.*127.0.0.1"), ({"port": 70000}, "70000"), ({"token": " "}, "not empty")],
)
def test_an_unsafe_server_is_refused_before_the_model_is_loaded(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Prevents: a listener beyond this machine that anybody may use, and a wait before the error."""
    with pytest.raises(ConfigError, match=words):
        serve(tmp_path / "no such model", **options)


def test_a_token_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a secret that can only be given where every user of the machine reads it, and a file that is not read but no error."""
    served: list[Any] = []
    monkeypatch.setattr("heron.serving.serve", lambda model, **options: served.append(options["token"]))
    (tmp_path / "token").write_text("secret\n")
    command = ["serve", "MODEL", "--token-file"]
    assert CliRunner().invoke(app, [*command, str(tmp_path / "token")], catch_exceptions=False).exit_code == 0
    assert served == ["secret"]
    for given, words in (([str(tmp_path / "token"), "--token", "t"], "both"), ([str(tmp_path / "none")], "cannot be read")):
        with pytest.raises(ConfigError, match=words):
            CliRunner().invoke(app, [*command, *given], catch_exceptions=False)


def test_a_taken_port_says_so(model: ServedModel, shared: Server) -> None:
    """Prevents: a bare OSError."""
    taken = shared.port
    with pytest.raises(ConfigError, match="another port"):
        make_server(model, port=taken)
    with pytest.raises(ConfigError, match="another port"):
        serve("no such model, which is not looked at", port=taken)


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
