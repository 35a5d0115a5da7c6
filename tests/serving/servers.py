"""Servers for tests: started on a free port, ended after the test; and a session that says what a test wants said."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native.sequence import Sequence as Completing
from heron.engine.native.sequence import new_sequence
from heron.models import Policy
from heron.serving.server import Server
from heron.types import FinishReason

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 6, "seed": 3}
CHAT = "/v1/chat/completions"

Start = Callable[..., Server]
"""Starts a server and ends it after the test."""
Script = Callable[[tuple[int, ...]], Sequence[int]]
"""From a prompt's tokens to an answer's."""


class ScriptedSession:
    """An open session that says what the script says, a token a step; an error in the script is the step's."""

    def __init__(self, script: Script, *, pause_s: float = 0.0) -> None:
        self.script = script
        self.pause_s = pause_s
        self.open: dict[Completing, SamplingParams] = {}
        self.dropped: list[Completing] = []

    @property
    def is_idle(self) -> bool:
        return not self.open

    def add(self, request: Request, params: SamplingParams) -> list[Completing]:
        added = [new_sequence(0, number, request.prompt_ids, seed, None) for number, seed in enumerate(request.seeds)]
        self.open |= dict.fromkeys(added, params)
        return added

    def drop(self, sequences: Collection[Completing]) -> None:
        for one in sequences:
            if self.open.pop(one, None) is not None:
                self.dropped.append(one)

    def step(self) -> list[Completing]:
        time.sleep(self.pause_s)
        spoke = list(self.open)
        for one, params in list(self.open.items()):
            script = self.script(one.prompt_ids)
            one.say(script[len(one.token_ids)], -1.0, 0.0, 0)
            if len(one.token_ids) == len(script):
                one.finish_reason = FinishReason.STOP
            elif len(one.token_ids) >= params.max_tokens:
                one.finish_reason = FinishReason.LENGTH
            if one.finish_reason is not None:
                del self.open[one]
        return spoke


class ScriptedEngine(NativeEngine):
    """Its sessions say what a script says."""

    def __init__(self, policy: Policy, script: Script, *, max_concurrent: int = 4, pause_s: float = 0.0) -> None:
        super().__init__(policy, max_concurrent=max_concurrent)
        self.script = script
        self.pause_s = pause_s
        self.sessions: list[ScriptedSession] = []

    def open(self) -> ScriptedSession:  # type: ignore[override]
        self.sessions.append(ScriptedSession(self.script, pause_s=self.pause_s))
        return self.sessions[-1]


def call(server: Server, path: str = CHAT, body: Any = None, *, method: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of one request; a body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    wanted = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if body is None else "POST"), path, content, wanted)
    response = connection.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        connection.close()


def ask(server: Server, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """The answer to a small question."""
    status, text = call(server, path, body=ASK | fields)
    assert status == 200, text
    return dict(json.loads(text))


def refusal(server: Server, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and error."""
    status, text = call(server, body=ASK | fields)
    return status, json.loads(text)["error"]


def until(holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
