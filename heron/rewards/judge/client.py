"""A judge behind any OpenAI-compatible address: vLLM, llama.cpp, Ollama, `heron serve`, or a company's.

The hard idea: whatever goes wrong has one of three meanings. A busy or broken server (429, 5xx, silence) is waited for; a request that the
server will not take (400, 413, 422) is that reply's failure; a wrong key, address or model is everybody's, and stops the run with what
to correct. Redirects are not followed, since they would take the key along. Nothing is needed beyond Python.

Left out: streaming, and the tokens that a server does not report (then a quarter of the characters is counted).
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heron.errors import ConfigError, RewardError, RewardStop
from heron.rewards.judge.cache import Cache
from heron.rewards.judge.limits import Budget, Gate, delay, retry_after
from heron.types import Message

TRIES = 6
"""Of one request, besides those made while the server is under doubt."""
LONGEST_ANSWER = 1 << 20
"""Bytes of a response that are read."""
OF_EVERYBODY = (401, 403, 404, 405)
OF_THE_SERVER = (408, 409, 425, 429)


class HttpJudge:
    """A model at `url`, which ends in `/v1`; greedy, with its answer held to a schema if `structured`.

    Args:
        url, model: whom to ask.
        cache: where answers are kept.
        key: sent as `Authorization: Bearer KEY`; never written anywhere.
        max_concurrent: requests under way at once.
        max_rpm: requests a minute; 0: any number.
        max_spend_tokens: stop after so many tokens; 0: never.
        timeout: seconds of one request.
        patience: seconds that an outage may last.
        max_answer_tokens: of one answer.
        structured: send the schema along as `response_format`.
    """

    def __init__(
        self, *, url: str, model: str, cache: Cache, key: str | None = None, max_concurrent: int = 8, max_rpm: int = 0,
        max_spend_tokens: int = 0, timeout: float = 60.0, patience: float = 300.0, max_answer_tokens: int = 512, structured: bool = True,
    ) -> None:
        self.url = f"{url.rstrip('/')}/chat/completions"
        self.name, self.model = f"{model} at {url.rstrip('/')}", model
        self.cache, self.max_concurrent = cache, max_concurrent
        self.budget, self.gate = Budget(max_spend_tokens), Gate(per_minute=max_rpm, patience=patience)
        self._fixed = {"model": model, "temperature": 0, "max_tokens": max_answer_tokens}
        self._timeout, self._patience, self._structured = timeout, patience, structured
        self._headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        self._opener = _opener(url)

    @property
    def budget_used(self) -> float | None:
        """Of the tokens of `max_spend_tokens`."""
        return self.budget.used

    def ask(self, conversations: Sequence[Sequence[Message]], schema: Mapping[str, Any]) -> Iterator[tuple[int, str | RewardError]]:
        """Answers as they come."""
        left = threading.Event()
        threads = ThreadPoolExecutor(max_workers=self.max_concurrent, thread_name_prefix="heron-judge")
        try:
            waiting = {threads.submit(self._answer, messages, schema, left): number for number, messages in enumerate(conversations)}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            left.set()
            threads.shutdown(wait=False, cancel_futures=True)

    def _answer(self, messages: Sequence[Message], schema: Mapping[str, Any], left: threading.Event) -> str | RewardError:
        """Of one conversation, however often it must be asked for."""
        body = json.dumps(self._body(messages, schema)).encode()
        tries = waits = 0
        while True:
            self.gate.wait(left)
            if left.is_set():
                return RewardError("nobody waits for the judge's answer any more")
            self.budget.check()
            asked = self.gate.probe or body
            try:
                answer = self._post(asked)
            except _Busy as busy:
                may_be_down = self.gate.failed(asked, str(busy), is_reached=busy.is_reached)
                tries, waits = tries + (asked is body and not may_be_down), waits + 1
                if tries >= TRIES or busy.seconds > self._patience:
                    return RewardError(f"the judge did not answer: {busy}")
                self.gate.hold(busy.seconds)
                left.wait(0 if may_be_down else delay(waits - 1))
            except _Refused as refused:
                self.gate.succeeded()
                if asked is body:
                    return RewardError(f"the judge's server refused the request: {refused}")
            else:
                self.gate.succeeded(asked)
                text = self._text(answer, len(asked))
                if asked is body:
                    return text

    def _body(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
        return {**self._fixed, "messages": list(messages), **({"response_format": wanted} if self._structured else {})}

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, data=body, headers=self._headers, method="POST")
        end = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return _read(response, end)
        except urllib.error.HTTPError as error:
            raise self._meaning(error) from error
        except (OSError, http.client.HTTPException) as error:
            is_reached = not isinstance(getattr(error, "reason", None), ConnectionRefusedError | socket.gaierror)
            raise _Busy(f"{self.url}: {error or type(error).__name__}", is_reached=is_reached) from error

    def _meaning(self, error: urllib.error.HTTPError) -> Exception:
        """Of a status that is no success."""
        try:
            said = error.read(400).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            said = ""
        what = f"{error.code} {error.reason}: {said}"
        if error.code in OF_THE_SERVER or error.code >= 500:
            return _Busy(what, retry_after(error.headers.get("Retry-After")))
        if error.code in OF_EVERYBODY or error.code < 400:
            return RewardStop(f"The judge at {self.url} answered {what}. Check judge.url (it ends in /v1), judge.name = "
                              f"{self.model!r} and judge.key_file.")
        return _Refused(f"{what} (if it knows no response_format: judge.structured = false)")

    def _text(self, answer: bytes, sent: int) -> str | RewardError:
        """What the model said, and what it cost."""
        try:
            data = json.loads(answer)
            said = data["choices"][0]["message"].get("content") or ""
            used = (data.get("usage") or {}).get("total_tokens")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            self.budget.spend((sent + len(answer)) // 4)
            return RewardError(f"the judge's server answered something else than a chat completion: {answer[:200]!r}")
        self.budget.spend(used if isinstance(used, int) and used > 0 else (sent + len(answer)) // 4)
        return said if isinstance(said, str) else RewardError(f"the judge's answer is no text: {said!r:.200}")


def read_key(file: str | None) -> str | None:
    """The first line of the file."""
    if file is None:
        return None
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"judge.key_file {file!r} cannot be read: {error}. Write the key into a file that only you can read.") from error
    if len(lines) != 1 or not lines[0].isascii():
        raise ConfigError(f"judge.key_file {file!r} must hold one key and nothing else, but it has {len(lines)} words.")
    return lines[0]


def check_url(url: str) -> None:
    """Raises ConfigError for what is no address of a server."""
    if not _is_address(url):
        raise ConfigError(f"judge.url must be an address such as http://127.0.0.1:8000/v1, but it is {url!r}. A key belongs into "
                          "judge.key_file.")


def _is_address(url: str) -> bool:
    """Of a server and a path, which a request can be sent to."""
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").encode("idna")
        is_plain = parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        return False
    return is_plain and bool(name) and parts.scheme in ("http", "https") and not parts.query and not parts.username


class _Busy(Exception):
    """The server may answer later; `seconds` is what it asked for, and one that is not reached has not seen the request."""

    def __init__(self, what: str, seconds: float = 0.0, *, is_reached: bool = True) -> None:
        super().__init__(what)
        self.seconds, self.is_reached = seconds, is_reached


class _Refused(Exception):
    """The server will never answer this request."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: the redirect is an error."""


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Through the system's proxy, except to this machine."""
    is_here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return urllib.request.build_opener(_NoRedirect(), *([urllib.request.ProxyHandler({})] if is_here else []))


def _read(response: Any, end: float) -> bytes:
    """All of it; a server that sends a byte now and then is as late as one that sends none."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        size += len(part)
        parts.append(part)
        if size > LONGEST_ANSWER:
            raise _Refused(f"an answer longer than {LONGEST_ANSWER} bytes")
        if time.monotonic() > end:
            raise TimeoutError("timed out in the middle of its answer")
    return b"".join(parts)
