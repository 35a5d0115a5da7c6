"""`heron serve` under the load of 64 clients at once, beside the same requests one at a time, and beside vLLM's server where there is one.

    python -m benchmarks.serving [--quick] [--write] [--vllm-python PATH]

Requests are ragged: prompts of 20 to 300 tokens, answers of up to 16 to 256, half of them streamed. The server is a process of its own with
a model of the default run's shape and random weights; clients are threads here, as on a machine that does both. All at once must say, word
for word, what one at a time says, or the benchmark fails. vLLM needs an environment of its own: `--vllm-python` is its Python.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.models.embedded import build_model, build_tokenizer
from heron.models.policy import no_bars
from heron.types import Tags

NAME = "serving"
GOAL = 4.0
"""Tokens a second of 64 clients, over those of one at a time."""
CLIENTS = 64
START_S = 300.0
"""Seconds for a server to begin to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One request."""

    prompt: str
    """Continued as it is."""
    max_tokens: int
    """Longest answer."""
    seed: int
    """Decides what is said."""
    is_stream: bool
    """The answer comes token by token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to ask."""

    name: str
    """In the table."""
    tokens: int
    """Said in all answers."""
    seconds: float
    """For all of them."""
    slowest: float
    """Seconds of the slowest request."""

    @property
    def per_second(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    loads = ragged(CLIENTS if options.quick else 3 * CLIENTS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_model(Path(scratch) / "model")
        with heron_server(folder) as url:
            sides = ours(url, loads)
        if options.vllm_python is not None:
            with vllm_server(options.vllm_python, folder, Path(scratch)) as url:
                sides += [asked("vLLM, one at a time", url, loads, clients=1)[0], asked("vLLM, 64 at once", url, loads, clients=CLIENTS)[0]]
    return conclude(table(sides, loads, options.vllm_python), bar(sides), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Clients at once beside one at a time.")
    made.add_argument("--quick", action="store_true", help="64 requests: under a minute on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    made.add_argument("--vllm-python", type=Path, help="Python of an environment with vLLM; without it vLLM is absent")
    return made


def ragged(count: int) -> list[Load]:
    """The same requests every time."""
    draw = random.Random(0)
    return [
        Load(prompt="".join(draw.choice("0123456789+-= ") for _ in range(draw.randrange(20, 300))), max_tokens=draw.randrange(16, 257),
             seed=number, is_stream=number % 2 == 0)
        for number in range(count)
    ]


def save_model(folder: Path) -> Path:
    """Of the default run's shape; its weights are random."""
    tokenizer = build_tokenizer(Tags())
    with no_bars():
        build_model(tokenizer, seed=0).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def ours(url: str, loads: Sequence[Load]) -> list[Side]:
    """Both ways; what is said must be the same."""
    asked("warm-up", url, loads[:4], clients=4)
    one, said = asked("one at a time", url, loads, clients=1)
    all_at_once, also_said = asked(f"{CLIENTS} at once", url, loads, clients=CLIENTS)
    assert said == also_said, "an answer depended on what else was in flight"
    return [one, all_at_once]


def asked(name: str, url: str, loads: Sequence[Load], *, clients: int) -> tuple[Side, list[str]]:
    """So many clients, each with its next request as soon as it has its answer."""
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda load: answer(url, load), loads))
    seconds = time.monotonic() - began
    tokens, slowest = sum(tokens for _, tokens, _ in answers), max(took for _, _, took in answers)
    return Side(name=name, tokens=tokens, seconds=seconds, slowest=slowest), [text for text, _, _ in answers]


def answer(url: str, load: Load) -> tuple[str, int, float]:
    """Text, tokens and seconds of one request."""
    began = time.monotonic()
    body = {"prompt": load.prompt, "max_tokens": load.max_tokens, "seed": load.seed, "stream": load.is_stream}
    body |= {"stream_options": {"include_usage": True}} if load.is_stream else {}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=START_S)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read().decode()
    assert response.status == 200, content
    text, tokens = _streamed(content) if load.is_stream else _whole(json.loads(content))
    return text, tokens, time.monotonic() - began


def table(sides: Sequence[Side], loads: Sequence[Load], vllm: Path | None) -> Table:
    """One row a side."""
    return Table(
        title=f"{len(loads)} ragged requests to one server", columns=("who", "tokens/s", "requests/s", "slowest request, s"),
        rows=tuple((side.name, f"{side.per_second:.0f}", f"{len(loads) / side.seconds:.1f}", f"{side.slowest:.2f}") for side in sides),
        notes=(f"{sides[0].tokens} tokens said; all at once said word for word what one at a time said.",
               *(() if vllm else ("vLLM's server: absent (--vllm-python names an environment with it).",))),
    )


def bar(sides: Sequence[Side]) -> Bar:
    """Of Heron's two sides."""
    ratio = sides[1].per_second / sides[0].per_second
    return Bar(name=NAME, met=ratio >= GOAL, figure=f"{ratio:.1f} times the tokens/s of one at a time", goal=f"{GOAL:.0f}")


@contextlib.contextmanager
def heron_server(folder: Path) -> Iterator[str]:
    """`heron serve` on a free port."""
    words = [sys.executable, "-m", "heron.cli.main", "serve", str(folder), "--port", "0"]
    with _process(words, subprocess.PIPE) as process:
        assert process.stdout is not None, "it was asked for"
        line = process.stdout.readline()
        assert " at http" in line, f"the server did not start: {line!r}"
        yield line.split()[2].removesuffix("/v1")


@contextlib.contextmanager
def vllm_server(python: Path, folder: Path, scratch: Path) -> Iterator[str]:
    """vLLM's own server on the same model; its log lies in `scratch`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port), "--dtype", "float32",
             "--max-num-seqs", str(CLIENTS)]
    with (scratch / "vllm.log").open("w") as log, _process(words, log) as process:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < end, (scratch / "vllm.log").read_text()[-2000:]
            time.sleep(0.5)
        yield url


@contextlib.contextmanager
def _process(words: Sequence[str], output: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(words, stdout=output, text=True)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _whole(body: dict[str, object]) -> tuple[str, int]:
    return body["choices"][0]["text"], body["usage"]["completion_tokens"]  # type: ignore[index, return-value]


def _streamed(content: str) -> tuple[str, int]:
    chunks = [json.loads(line.removeprefix("data: ")) for line in content.split("\n\n") if line and not line.endswith("[DONE]")]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    return text, chunks[-1]["usage"]["completion_tokens"]


if __name__ == "__main__":
    sys.exit(main())
