"""The judge behind an address: what it waits for, what it gives up, what stops a run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from judgeserver import Behaviour, FakeJudge, Handler, fails, running, says

from heron.errors import ConfigError, RewardError, RewardStop
from heron.rewards.judge import HttpJudge, limits
from heron.rewards.judge.cache import Cache
from heron.rewards.judge.client import check_url, read_key
from heron.rewards.judge.limits import Gate, retry_after

SCHEMA = {"type": "object"}


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(limits, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with running(says("fine")) as fake:
        yield fake


def ask(server: FakeJudge, *texts: str, **settings: Any) -> list[Any]:
    judge = HttpJudge(**{"url": server.url, "model": "m", "cache": Cache(None), "timeout": 2.0} | settings)
    found = dict(judge.ask([[{"role": "user", "content": text}] for text in texts], SCHEMA))
    return [found[number] for number in range(len(texts))]


def test_request_is_greedy_names_the_model_and_sends_the_schema_and_the_key(server: FakeJudge) -> None:
    """Prevents: a judge that rolls dice, and answers that nothing holds to the schema."""
    assert ask(server, "hello", key="secret") == ["fine"]
    body = server.bodies[0]
    assert body["model"] == "m" and body["temperature"] == 0 and body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert server.headers[0]["Authorization"] == "Bearer secret"
    ask(server, "hello", structured=False)
    assert "response_format" not in server.bodies[1] and "Authorization" not in server.headers[1]


def test_judge_429_waits_as_long_as_it_is_told(server: FakeJudge) -> None:
    """Prevents: hammering a server that has said when to come back."""
    server.script = [fails(429, Retry_After="1")]
    assert ask(server, "hello") == ["fine"]
    assert server.times[1] - server.times[0] >= 0.95


def test_retry_after_holds_every_request_back(server: FakeJudge) -> None:
    """Prevents: one request that waits while its neighbours run into the same wall."""
    server.script = [fails(429, Retry_After="1")]
    assert ask(server, *"abcd", max_concurrent=1) == ["fine"] * 4
    assert server.times[1] - server.times[0] >= 0.95


def test_judge_500_is_tried_again(server: FakeJudge) -> None:
    """Prevents: one hiccup that costs a rollout."""
    server.script = [fails(500), fails(503), fails(502)]
    assert ask(server, "hello") == ["fine"]


def test_one_request_that_always_fails_is_one_failure(server: FakeJudge) -> None:
    """Prevents: trying for ever, and a run that ends for one reply."""
    server.usual = poison("bad")
    texts = ["good", "bad", *map(str, range(20))]
    found = ask(server, *texts, max_concurrent=2, patience=20.0)
    assert isinstance(found[1], RewardError) and "500" in str(found[1]) and [found[0], *found[2:]] == ["fine"] * 21


def poison(*bad: str) -> Behaviour:
    """A server on which some texts always fail."""

    def unless_bad(handler: Handler, body: dict[str, Any]) -> None:
        (fails(500) if body["messages"][0]["content"] in bad else says("fine"))(handler, body)

    return unless_bad


@pytest.mark.parametrize("bad", [("x",), ("x", "y"), ("w", "x", "y", "z", "v")])
@pytest.mark.parametrize("concurrent", [1, 8])
def test_replies_that_break_the_server_are_left_out_when_nothing_else_is_open(
    server: FakeJudge, monkeypatch: pytest.MonkeyPatch, bad: tuple[str, ...], concurrent: int
) -> None:
    """Prevents: a reply that ends the run, since its own failures in a row look like an outage once the others are done."""
    monkeypatch.setattr(limits, "LONGEST_PAUSE", 0.02)
    server.usual = poison(*bad)
    found = ask(server, *"abc", *bad, max_concurrent=concurrent, patience=3.0)
    assert found[:3] == ["fine"] * 3 and all(isinstance(each, RewardError) and "500" in str(each) for each in found[3:])
    assert not any(isinstance(each, RewardStop) for each in found)
    assert all(sum(body["messages"][0]["content"] == text for body in server.bodies) >= 6 for text in bad)


def test_first_reply_of_all_breaks_the_server(server: FakeJudge) -> None:
    """Prevents: a run that cannot begin for one reply, when nothing was answered before it."""
    server.usual = poison("x")
    found = ask(server, *"xabc", max_concurrent=1, patience=0.2)
    assert isinstance(found[0], RewardError) and found[1:] == ["fine"] * 3


def test_an_outage_at_the_end_of_a_batch_is_waited_for(server: FakeJudge) -> None:
    """Prevents: the last open requests given up in a restart of the server, which no other failure betrays."""
    judge = HttpJudge(url=server.url, model="m", cache=Cache(None), patience=30.0)
    assert dict(judge.ask([[{"role": "user", "content": "a"}]], SCHEMA)) == {0: "fine"}
    server.script = [fails(503)] * 30
    assert dict(judge.ask([[{"role": "user", "content": "b"}]], SCHEMA)) == {0: "fine"}


@pytest.mark.parametrize("texts", ["b", "bcdefgh"])
def test_an_outage_after_answers_stops_the_run(server: FakeJudge, texts: str) -> None:
    """Prevents: a server that dies in the middle, and rows that are given up one by one."""
    judge = HttpJudge(url=server.url, model="m", cache=Cache(None), patience=0.3)
    assert dict(judge.ask([[{"role": "user", "content": "a"}]], SCHEMA)) == {0: "fine"}
    server.usual = fails(503)
    with pytest.raises(RewardStop, match=r"judge.patience = 0.3.*503"):
        list(judge.ask([[{"role": "user", "content": text}] for text in texts], SCHEMA))


def test_judge_timeout_is_tried_again_and_a_drip_is_a_timeout(server: FakeJudge) -> None:
    """Prevents: a server that sends a byte now and then, and holds a step for ever."""
    ended = threading.Event()

    def hangs(handler: Handler, body: dict[str, Any]) -> None:
        ended.wait(3)

    def drips(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    server.script = [hangs, drips]
    began = time.monotonic()
    assert ask(server, "hello", timeout=0.3) == ["fine"]
    assert time.monotonic() - began < 2.5
    ended.set()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_wrong_for_everybody_stops_at_once(server: FakeJudge, status: int) -> None:
    """Prevents: hours of retries with a wrong key, and a row-by-row failure that says nothing of it."""
    server.usual = fails(status)
    with pytest.raises(RewardStop, match="key_file"):
        ask(server, "hello")
    assert len(server.bodies) == 1


def test_redirect_is_not_followed(server: FakeJudge) -> None:
    """Prevents: a key that is carried to another host."""
    server.usual = fails(302, Location="http://127.0.0.1:9/v1")
    with pytest.raises(RewardStop, match="302"):
        ask(server, "hello", key="secret", patience=0.2)


def test_request_that_is_refused_is_that_replys_failure(server: FakeJudge) -> None:
    """Prevents: a reply that is too long for the judge, tried six times."""
    server.usual = fails(400)
    (found,) = ask(server, "hello")
    assert isinstance(found, RewardError) and not isinstance(found, RewardStop) and "400" in str(found)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("payload", [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}', b"[" * 100_000])
def test_body_that_is_no_completion_is_a_failure(server: FakeJudge, payload: bytes) -> None:
    """Prevents: an exception from a proxy's error page, and a deep document that ends the interpreter."""
    server.usual = lambda handler, body: handler.send(200, payload)
    assert isinstance(ask(server, "hello")[0], RewardError)


def test_endless_answer_is_cut(server: FakeJudge) -> None:
    """Prevents: a server that fills the memory."""
    server.usual = lambda handler, body: handler.send(200, b" " * (2 << 20))
    assert "longer than" in str(ask(server, "hello")[0])


def test_an_outage_is_waited_for(server: FakeJudge) -> None:
    """Prevents: all rows given up within a second of a restart of the server."""
    server.script = [fails(503)] * 40
    assert ask(server, *"abcdefgh", patience=30.0) == ["fine"] * 8


def test_an_outage_that_lasts_stops_the_run(server: FakeJudge) -> None:
    """Prevents: a run that waits for ever, or goes on without its judge."""
    server.usual = fails(503)
    with pytest.raises(RewardStop, match=r"judge.patience = 0.3.*503"):
        ask(server, *"abcdefgh", patience=0.3)


@pytest.mark.parametrize("texts", ["a", "abcdefgh"])
def test_server_that_is_not_there_stops_the_run(server: FakeJudge, texts: str) -> None:
    """Prevents: a refused connection that is no failure, or that of a reply which the server has never seen."""
    server.shutdown()
    server.server_close()
    with pytest.raises(RewardStop, match="refused"):
        ask(server, *texts, patience=0.2)


def test_budget_stops_the_run_and_counts_what_is_not_reported(server: FakeJudge) -> None:
    """Prevents: a bill without an end, and a server that reports no tokens and so is free."""
    with pytest.raises(RewardStop, match="max_spend_tokens is 25"):
        ask(server, *"abcdefgh", max_spend_tokens=25, max_concurrent=1)
    assert len(server.bodies) == 3
    server.usual = says("fine", tokens=None)
    with pytest.raises(RewardStop, match="max_spend_tokens"):
        ask(server, *"abcdefgh", max_spend_tokens=60, max_concurrent=1)


def test_rate_and_concurrency_are_kept(server: FakeJudge) -> None:
    """Prevents: a burst that a provider answers with a ban."""
    ask(server, *"abcd", max_rpm=600)
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert min(gaps) > 0.07
    running_now, most, lock = 0, 0, threading.Lock()

    def slow(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal running_now, most
        with lock:
            running_now += 1
            most = max(most, running_now)
        time.sleep(0.05)
        with lock:
            running_now -= 1
        says("fine")(handler, body)

    server.usual = slow
    ask(server, *"abcdefgh", max_concurrent=3)
    assert most == 3


def test_nobody_waits_for_an_abandoned_judge(server: FakeJudge) -> None:
    """Prevents: Ctrl-C that waits for hundreds of requests and their back-off."""
    server.script = [says("fine"), fails(429, Retry_After="30")]
    judge = HttpJudge(url=server.url, model="m", cache=Cache(None), max_concurrent=1)
    asked = judge.ask([[{"role": "user", "content": text}] for text in "abc"], SCHEMA)
    assert next(asked) == (0, "fine")
    while len(server.bodies) < 2:
        time.sleep(0.01)
    asked.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 1.0
    while any(thread.name.startswith("heron-judge") for thread in threading.enumerate()):
        assert time.monotonic() < end, "a thread still waits"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 0), ("7", 7), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("-3", 0), ("²", 0), ("٣", 0)],
)
def test_retry_after_in_every_form(header: str | None, seconds: float) -> None:
    """Prevents: a header that ends the run."""
    assert retry_after(header) == seconds


def test_retry_after_of_a_day_is_not_slept_through(server: FakeJudge) -> None:
    """Prevents: a step that sleeps until tomorrow."""
    server.usual = fails(429, Retry_After="86400")
    (found,) = ask(server, "hello", patience=5.0)
    assert isinstance(found, RewardError)


def test_gate_forgets_failures_after_a_success() -> None:
    """Prevents: five failures in a day that count as an outage."""
    gate = Gate(per_minute=0, patience=1.0)
    for number in range(20):
        assert not gate.failed(b"%d" % number, "x")
        gate.succeeded()


def test_pause_does_not_gather_a_burst(server: FakeJudge) -> None:
    """Prevents: turns that were handed out before a Retry-After and are all taken at its end."""
    server.script = [fails(429, Retry_After="1")]
    assert ask(server, *"abcd", max_rpm=300) == ["fine"] * 4
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 4 and min(gaps) > 0.17


@pytest.mark.parametrize("url", [
    "localhost:8000", "ftp://a/v1", "http://", "http://user:key@a/v1", "http://a/v1?key=b", "http://a:port/v1", "http://a:99999/v1",
    "http://[::1/v1", "http://a..b/v1", "http://a b/v1", "http://a/v1\n", "http://a/é",
])  # fmt: skip
def test_address_that_is_none_is_refused(url: str) -> None:
    """Prevents: a key in an address, which would be written into the run; an address that no request reaches, waited for as an outage."""
    with pytest.raises(ConfigError, match="such as http"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://api.example.com/v1/", "http://[::1]:8000/v1", "http://host_a/v1"])
def test_address_of_a_server_is_taken(url: str) -> None:
    """Prevents: a server that cannot be asked, since its address looks odd."""
    check_url(url)


def test_key_file_holds_one_key(tmp_path: Any) -> None:
    """Prevents: a header with a line break in it."""
    (tmp_path / "key").write_text("abc\n")
    assert read_key(str(tmp_path / "key")) == "abc" and read_key(None) is None
    (tmp_path / "two").write_text("a b")
    for name in ("two", "none"):
        with pytest.raises(ConfigError, match="key_file"):
            read_key(str(tmp_path / name))


def test_key_is_in_no_error(server: FakeJudge) -> None:
    """Prevents: a secret in a log."""
    server.usual = fails(401)
    with pytest.raises(RewardStop) as caught:
        ask(server, "hello", key="secret-key")
    assert "secret-key" not in str(caught.value) and "secret-key" not in json.dumps(server.bodies)
