"""Clients that go away, are slow, or are too many; engines that fail; a server that is ended while it speaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from servers import ASK, CHAT, Script, ScriptedEngine, ScriptedSession, Start, ask, call, refusal, until

from heron.engine import NativeEngine, Request, SamplingParams
from heron.serving import http
from heron.serving.batching import Batcher, Ticket
from heron.serving.fields import Refusal
from heron.serving.model import ServedModel
from heron.serving.server import Server, make_server

LONG: dict[str, Any] = {"max_tokens": 400, "stream": True}


@pytest.fixture
def endless(model: ServedModel) -> ServedModel:
    """Says x for four seconds, two answers at once."""
    return replace(model, engine=ScriptedEngine(model.policy, x_times(model, 400), max_concurrent=2, pause_s=0.01))


def x_times(model: ServedModel, count: int) -> Script:
    said = model.policy.encode("x") * count
    return lambda prompt: said


def raw(server: Server, body: dict[str, Any], *, small_buffer: bool = False) -> socket.socket:
    """A request that was sent, and whose answer nobody has read."""
    connection = socket.socket()
    if small_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", server.port))
    content = json.dumps(ASK | body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def engine_of(model: ServedModel) -> ScriptedEngine:
    assert isinstance(model.engine, ScriptedEngine)
    return model.engine


@pytest.mark.parametrize("is_stream", [True, False])
def test_who_goes_away_is_sampled_for_no_more(endless: ServedModel, start: Start, is_stream: bool) -> None:
    """Prevents: an abandoned answer that keeps its place, and its row, to the end."""
    server = start(endless)
    (session,) = engine_of(endless).sessions
    connection = raw(server, LONG | {"stream": is_stream})
    until(lambda: bool(session.open))
    connection.close()
    until(lambda: not session.open)
    assert len(session.dropped) == 1 and len(session.dropped[0].token_ids) < 300
    until(lambda: server.batcher.taken == 0)


def test_who_is_gone_before_it_began_never_begins(endless: ServedModel, start: Start) -> None:
    """Prevents: a queue of the dead."""
    server = start(endless)
    for connection in [raw(server, LONG) for _ in range(5)]:
        connection.close()
    until(lambda: server.batcher.taken == 0)
    assert not engine_of(endless).sessions[0].open
    assert ask(server, max_tokens=2)["choices"][0]["message"]["content"] == "xx"


def test_a_slow_client_holds_nobody_up(model: ServedModel, start: Start) -> None:
    """Prevents: a client that does not read, and with it everybody's tokens standing still."""
    engine = ScriptedEngine(model.policy, x_times(model, 400))
    server = start(replace(model, engine=engine))
    silent = [raw(server, LONG | {"n": 2}, small_buffer=True) for _ in range(2)]
    assert len(ask(server, max_tokens=200)["choices"][0]["message"]["content"]) == 200
    until(lambda: server.batcher.taken == 0)  # their answers were made all the same
    silent[0].settimeout(20)
    received = b""
    while b"[DONE]" not in received:
        received += silent[0].recv(65536)
    assert received.count(b'"finish_reason": "stop"') == 2
    for connection in silent:
        connection.close()


def test_a_client_that_never_reads_is_let_go(model: ServedModel, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: connections that are held open for ever."""
    monkeypatch.setattr(http, "SEND_S", 0.2)
    server = start(replace(model, engine=ScriptedEngine(model.policy, x_times(model, 60_000), max_concurrent=64)))
    connection = raw(server, {"max_tokens": 60_000, "stream": True, "n": 64, "logprobs": True}, small_buffer=True)
    tasks = server._server.server_state.tasks
    until(lambda: len(tasks) == 1)
    until(lambda: not tasks)
    connection.close()
    assert ask(server, max_tokens=2)["choices"][0]["message"]["content"] == "xx"


def test_an_answer_that_is_over_before_anybody_looks_is_read(model: ServedModel, start: Start) -> None:
    """Prevents: a stream that waits for ever for news of an answer that has ended already."""
    server = start(replace(model, engine=ScriptedEngine(model.policy, x_times(model, 1), max_concurrent=64)))

    def one(number: int) -> str:
        status, text = call(server, body=ASK | {"max_tokens": 1, "stream": True})
        assert status == 200 and "[DONE]" in text
        return text

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(one, range(100)))) == 100


def test_a_full_queue_is_said_at_once(endless: ServedModel, start: Start) -> None:
    """Prevents: requests without end in memory, and clients that wait for nothing."""
    server = start(endless, max_waiting=1)
    streams = [raw(server, LONG) for _ in range(3)]
    until(lambda: server.batcher.taken == 3)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client, pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(model=endless.name, messages=ASK["messages"])
    assert full.value.code == "queue_full" and 1 <= int(full.value.response.headers["retry-after"]) <= 60
    status, error = refusal(server, n=4)
    assert status == 400 and error["param"] == "n"
    for connection in streams:
        connection.close()
    until(lambda: server.batcher.taken == 0)
    ask(server, max_tokens=2, n=3)


def test_a_client_that_waits_and_asks_again_is_served(endless: ServedModel, start: Start) -> None:
    """Prevents: a load beyond the queue that is lost though its clients retry, as the openai client does by itself."""
    server = start(endless, max_waiting=2)

    def one(number: int) -> str | None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=20) as client:
            answer = client.chat.completions.create(model=endless.name, messages=ASK["messages"], max_tokens=5 + number)
            return answer.choices[0].message.content

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, range(12))) == ["x" * (5 + number) for number in range(12)]


def test_a_body_without_end_is_cut_off(shared: Server) -> None:
    """Prevents: a body that tells no length filling the memory."""
    connection = socket.create_connection(("127.0.0.1", shared.port), timeout=20)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode())
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = b""
    with contextlib.suppress(OSError):
        for _ in range(400):  # 25 MiB
            connection.sendall(part)
    connection.settimeout(20)
    with contextlib.suppress(ConnectionError):
        answer = connection.recv(65536)
    assert b"413" in answer.partition(b"\r\n")[0] or answer == b""
    assert call(shared, "/health")[0] == 200


def test_a_body_that_does_not_come_is_not_waited_for(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: connections that are held open by a client that says half a sentence."""
    monkeypatch.setattr(http, "BODY_S", 0.1)
    connection = socket.create_connection(("127.0.0.1", shared.port), timeout=20)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{{"
    connection.sendall(head.encode())
    assert b" 408 " in connection.recv(65536)


def test_a_failing_step_is_told_to_all_in_it_and_the_server_goes_on(
    model: ServedModel, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents: one bad step that ends the server, leaves clients waiting for ever, or goes on with a session in any state."""
    is_broken, said = threading.Event(), x_times(model, 400)

    def script(prompt: tuple[int, ...]) -> Sequence[int]:
        if is_broken.is_set():
            raise ZeroDivisionError("out of luck")
        return said(prompt)

    engine = ScriptedEngine(model.policy, script, pause_s=0.01)
    server = start(replace(model, engine=engine))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(call, server, CHAT, ASK | LONG | {"stream": is_stream}) for is_stream in (True, False)]
        until(lambda: len(engine.sessions[0].open) == 2)
        is_broken.set()
        (streamed, plain) = (future.result() for future in waiting)
    assert plain[0] == 500 and "out of luck" in plain[1]
    assert streamed[0] == 200 and "out of luck" in streamed[1] and "[DONE]" not in streamed[1]
    status, health = call(server, "/health")
    assert status == 503 and '"failing"' in health
    assert capfd.readouterr().err.count("Traceback") == 1
    is_broken.clear()
    assert ask(server, max_tokens=2)["choices"][0]["message"]["content"] == "xx"
    assert len(engine.sessions) == 2 and server.batcher.taken == 0 and call(server, "/health")[0] == 200


def test_a_failed_session_is_let_go_before_another_one_is_made(model: ServedModel) -> None:
    """Prevents: two caches at once, of which the second one finds no room on a GPU."""
    opened: list[weakref.ref[ScriptedSession]] = []
    said, is_broken = x_times(model, 4), True

    def script(prompt: tuple[int, ...]) -> Sequence[int]:
        if is_broken:
            raise ZeroDivisionError("out of luck")
        return said(prompt)

    def open_session() -> ScriptedSession:
        assert all(session() is None for session in opened)
        session = ScriptedSession(script)
        opened.append(weakref.ref(session))
        return session

    async def two() -> None:
        nonlocal is_broken
        for is_broken in (True, False):
            ticket = Ticket([Request(prompt_ids=(1,), seeds=(0,))], SamplingParams(max_tokens=9), is_stream=False,
                            loop=asyncio.get_running_loop())
            batcher.submit(ticket)
            with pytest.raises(Refusal, match="out of luck") if is_broken else contextlib.nullcontext():
                await asyncio.wait_for(ticket.news(), 20)

    batcher = Batcher(open_session, places=2, max_waiting=0)
    batcher.start()
    asyncio.run(two())
    batcher.close()
    assert len(opened) == 2


def test_an_error_of_letting_go_ends_no_server(model: ServedModel, start: Start) -> None:
    """Prevents: a thread that dies of one client's leaving, and a server that takes requests in and never answers."""
    engine = ScriptedEngine(model.policy, x_times(model, 400), pause_s=0.01)
    server = start(replace(model, engine=engine))
    engine.sessions[0].drop = lambda sequences: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    connection = raw(server, LONG)
    until(lambda: bool(engine.sessions[0].open))
    connection.close()
    until(lambda: server.batcher.taken == 0)
    assert ask(server, max_tokens=2)["choices"][0]["message"]["content"] == "xx"


def test_one_clients_schema_ends_nobody_elses_answer(shared: Server) -> None:
    """Prevents: a schema that cannot be followed taking all answers in the making with it."""
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "^(a?){300}a{300}$"}}}
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(call, shared, CHAT, ASK | {"max_tokens": 150, "stream": is_stream}) for is_stream in (True, False)]
        bad = [pool.submit(call, shared, CHAT, ASK | {"response_format": schema, "n": 3, "stream": is_stream})
               for is_stream in (True, False)]
    assert all(future.result()[0] == 200 and "error" not in future.result()[1] for future in good)
    assert all("ake the regex or the schema simpler" in future.result()[1] for future in bad)
    assert [future.result()[0] for future in bad] == [200, 400] and "[DONE]" not in bad[0].result()[1]
    assert shared.batcher.taken == 0 and call(shared, "/health")[0] == 200


def test_who_leaves_before_the_first_event_is_let_go() -> None:
    """Prevents: an answer that is made to its end for nobody, because its stream had not begun when its client left."""
    closed: list[bool] = []

    async def events() -> AsyncIterator[str]:
        yield "never asked for"

    async def send(message: Any) -> None:
        await asyncio.sleep(60)  # a client whose window is full

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    asyncio.run(http.EventStream(events(), on_close=lambda: closed.append(True))({}, receive, send))  # type: ignore[arg-type]
    assert closed == [True]


def test_what_ends_while_it_speaks_says_so(endless: ServedModel) -> None:
    """Prevents: a server that waits for its longest stream before it ends, and a stream that just stops."""
    server = make_server(endless, port=0)
    server.start()
    caught: list[BaseException] = []

    def listen() -> None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
            try:
                list(client.chat.completions.create(model=endless.name, messages=ASK["messages"], stream=True, max_tokens=400))
            except openai.APIError as error:
                caught.append(error)

    listening = threading.Thread(target=listen)
    listening.start()
    until(lambda: bool(engine_of(endless).sessions[0].open))
    server.close()
    listening.join(20)
    assert not listening.is_alive() and "shutting down" in str(caught[0])
    assert not server.batcher._thread.is_alive()


@pytest.mark.slow
def test_ctrl_c_ends_the_command_while_it_streams(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a Ctrl-C that prints a traceback, hangs on open streams, or leaves clients without a word."""
    words = [sys.executable, "-m", "heron.cli.main", "serve", str(tiny_folder("qwen3")), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().split()[2]
        chunks = _streams(url)
        next(chunks)
        process.send_signal(signal.SIGINT)
        rest = list(chunks)
        assert process.wait(30) == 0
        assert process.stdout.read() == "ended\n" and "Traceback" not in process.stderr.read()
    assert "shutting down" in rest[-1] or "[DONE]" in rest[-1]


def _streams(url: str) -> Iterator[str]:
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        try:
            for chunk in client.completions.create(model="qwen3", prompt="x", stream=True, max_tokens=490):
                yield chunk.choices[0].text
            yield "[DONE]"
        except openai.APIError as error:
            yield str(error)


def test_the_session_is_opened_before_anybody_asks(model: ServedModel) -> None:
    """Prevents: a cache that does not fit being told to the first client instead of who starts the server."""
    engine = NativeEngine(model.policy, cache_bytes=10)
    with make_server(replace(model, engine=engine), port=0) as server, pytest.raises(Exception, match="cache_gib"):
        server.start()
