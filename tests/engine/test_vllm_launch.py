"""`heron serve --engine vllm`: what vLLM is told, what is refused before it starts, and how it ends. A stub is started in vLLM's place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import save_tiny
from typer.testing import CliRunner, Result

from heron.cli.main import app
from heron.config import load_config, to_toml
from heron.engine.vllm import launch
from heron.engine.vllm.launch import Settings, command, environment, is_cpu_build, run_server, shown
from heron.errors import ConfigError, HeronError, MissingExtra
from heron.run import RunWriter
from heron.serving import vllm as serving

STUB = """
import http.server, json, os, pathlib, signal, subprocess, sys, time

told = pathlib.Path(os.environ["STUB_TOLD"])
mode = os.environ.get("STUB_MODE", "")
if mode == "fails":
    sys.exit(3)
end = lambda number, frame: (told.with_suffix(".heard").open("a").write(f"{number}\\n"), mode == "stubborn" or os._exit(7))
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        told.with_suffix(".asked").touch()
    def log_message(self, *_):
        pass

after = {"stubborn": "time.sleep(60)", "cleans": f"sys.stdin.read(); time.sleep(0.7); open({str(told)!r} + '.clean', 'w')"}
cleaner = [sys.executable, "-c", "import sys, time; " + after.get(mode, "")]
worker = subprocess.Popen(cleaner, stdin=subprocess.PIPE).pid if mode in after else None
about = {"words": sys.argv[1:], "variables": dict(os.environ), "group": os.getpgrp(), "pid": os.getpid(), "worker": worker}
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health)
told.write_text(json.dumps(about))
server.serve_forever()
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of vLLM's name, which writes into this file what it was told."""
    folder = tmp_path / "stub" / "vllm" / "entrypoints" / "openai"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (folder / "api_server.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    monkeypatch.setenv("STUB_TOLD", str(tmp_path / "told.json"))
    pretend_installed(monkeypatch)
    return tmp_path / "told.json"


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *, is_there: bool = True) -> None:
    find = importlib.util.find_spec
    known = "json" if is_there else "no_such_package"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: find(known if name == "vllm" else name, *rest))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def signals_when(file: Path, *numbers: int) -> None:
    """Sends signals to this process once the file is there, from a thread."""

    def send() -> None:
        until = time.monotonic() + 20
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.3)

    threading.Thread(target=send, daemon=True).start()


def settings(**given: Any) -> Settings:
    return Settings(**{"model": "some/model", "dtype": "bfloat16", "port": free_port()} | given)


def heron(*words: str) -> Result:
    return CliRunner().invoke(app, ["serve", *words])


def a_run(path: Path, **model: Any) -> Path:
    config = load_config("arithmetic", {"model": model})
    RunWriter.create(path, config_toml=to_toml(config), manifest={"start_model": model["name"]}).close()
    return path


class TestCommand:
    """What vLLM is told."""

    def test_for_adapters_on_a_gpu(self) -> None:
        """Prevents: a flag lost without which the probe after a push fails, and development endpoints that nobody asked for."""
        words = command(Settings(model="some/model", dtype="float32", port=8100, lora_rank=16), is_cpu=False)
        assert words == shlex.split(
            "env -u VLLM_API_KEY -u VLLM_CPU_KVCACHE_SPACE VLLM_SERVER_DEV_MODE=0 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_NO_USAGE_STATS=1 "
            f"{sys.executable} -m vllm.entrypoints.openai.api_server --model some/model --served-model-name base --dtype float32 "
            "--host 127.0.0.1 --port 8100 --logprobs-mode processed_logprobs --enable-prompt-tokens-details "
            "--enable-lora --max-lora-rank 16 --max-loras 1"
        )

    def test_for_every_weight(self) -> None:
        """Prevents: a server that takes weights without having been told, or pays for adapters that never come."""
        one = settings(lora_rank=0, takes_weights=True)
        assert environment(one)["VLLM_SERVER_DEV_MODE"] == "1" and environment(one)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "0"
        assert not [word for word in command(one, is_cpu=False) if "lora" in word]

    @pytest.mark.parametrize(
        ("cache_gib", "is_cpu", "size"), [(None, False, None), (None, True, 2**30), (0.5, True, 2**29), (2, False, 2**31)]
    )
    def test_cache(self, cache_gib: float | None, is_cpu: bool, size: int | None) -> None:
        """Prevents: a CPU build that takes the whole machine, and a size that only one of the builds obeys."""
        words = command(settings(cache_gib=cache_gib), is_cpu=is_cpu)
        assert words[words.index("--kv-cache-memory-bytes") + 1] == str(size) if size else "--kv-cache-memory-bytes" not in words
        assert ("--enforce-eager" in words) == is_cpu

    def test_what_may_be_left_out(self) -> None:
        """Prevents: an option that is read and goes nowhere."""
        words = command(settings(max_model_len=512, revision="v2"), is_cpu=False)
        assert (words[words.index("--max-model-len") + 1], words[words.index("--revision") + 1]) == ("512", "v2")

    @pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (24, 32), (512, 512)])
    def test_rank(self, rank: int, room: int) -> None:
        """Prevents: a rank that vLLM refuses, though it has room for the adapter."""
        words = command(settings(lora_rank=rank), is_cpu=False)
        assert words[words.index("--max-lora-rank") + 1] == str(room)

    def test_rank_that_no_server_takes(self) -> None:
        with pytest.raises(ConfigError, match="rank 513, but vLLM takes at most 512"):
            command(settings(lora_rank=513), is_cpu=False)

    def test_token(self) -> None:
        """Prevents: a secret on the screen, in a log, or in the arguments that vLLM repeats there."""
        words = command(settings(token="secret"), is_cpu=False)
        assert "VLLM_API_KEY=secret" in words[: words.index(sys.executable)] and "secret" not in shown(words)

    @pytest.mark.parametrize(
        ("name", "version", "is_cpu"),
        [("vllm-cpu", "0.32.0", True), ("vllm", "0.32.0", False), ("vllm", "0.32.0+cpu", True), ("other", "1", False)],
    )
    def test_cpu_build(self, name: str, version: str, is_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: an eager GPU, and a CPU that compiles."""

        def find(asked: str) -> str:
            if asked != name:
                raise importlib.metadata.PackageNotFoundError(asked)
            return version

        monkeypatch.setattr(importlib.metadata, "version", find)
        assert is_cpu_build() is is_cpu

    def test_addresses(self) -> None:
        """Prevents: a URL that no client understands."""
        assert [settings(host=host, port=9).url for host in ("127.0.0.1", "0.0.0.0", "::1", "::")] == [
            "http://127.0.0.1:9", "http://127.0.0.1:9", "http://[::1]:9", "http://[::1]:9",
        ]


class TestBase:
    """What MODEL means."""

    def test_run(self, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
        """Prevents: a server on a run's trained model, into which the next run pushes adapters of another base; ranks that don't fit."""
        tiny = str(tiny_folder("qwen3"))
        base = serving.base_of(str(a_run(tmp_path / "run", name=tiny, method="lora", lora_rank=24, dtype="bfloat16")))
        assert (base.model, base.dtype, base.run_rank) == (tiny, "bfloat16", 24)
        assert serving.chosen_rank(base, None, full=False, host="localhost") == 24
        assert serving.chosen_dtype(base, "auto") == "bfloat16"
        hub = serving.base_of(str(a_run(tmp_path / "hub", name="owner/name", method="full", revision="v2")))
        assert (hub.model, hub.revision, hub.run_rank) == ("owner/name", "v2", 0)
        assert serving.chosen_rank(hub, None, full=True, host="localhost") == 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_dtype_is_the_checkpoints(self, dtype: torch.dtype, tmp_path: Path) -> None:
        """Prevents: vLLM's own choice, which is never float32: every probe would find it."""
        base = serving.base_of(str(save_tiny("qwen3", tmp_path / "tiny", dtype=dtype)))
        assert serving.chosen_dtype(base, "auto") == str(dtype).removeprefix("torch.")
        assert serving.chosen_dtype(base, "float32") == "float32"

    def test_ranks_without_a_run(self, tiny_folder: Callable[[str], Path]) -> None:
        base = serving.base_of(str(tiny_folder("qwen3")))
        given = [(None, False), (None, True), (8, True), (0, True)]
        assert [serving.chosen_rank(base, rank, full=full, host="127.0.0.1") for rank, full in given] == [16, 0, 8, 0]


class TestRefused:
    """What could not work later is said now."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("TINY --lora-rank 8 --cache-gib 1", "--lora-rank is of use to --engine vllm alone"),
            ("TINY --engine vllm --max-waiting 3", "--max-waiting is of use to --engine native alone"),
            ("TINY --full", "--full is of use to --engine vllm alone"),
            ("TINY --engine vlm", 'Did you mean "vllm"'),
            ("TINY --engine vllm --full --host 0.0.0.0 --token t", "--full lets whoever reaches the server replace its weights"),
            ("TINY --engine vllm --host 0.0.0.0", "a token is required"),
            ("TINY --engine vllm --lora-rank 0", "no run could push its weights"),
            ("TINY --engine vllm --port 0", "a run must know"),
            ("TINY --engine vllm --max-model-len 257", "at least 258"),
            ("TINY --engine vllm --cache-gib 0", "--cache-gib must be a number above 0"),
            ("TINY --engine vllm --cache-gib nan", "--cache-gib must be a number above 0"),
            ("TINY --engine vllm --dtype fp8", "--dtype must be one of"),
            ("./nowhere --engine vllm", "There is no model folder './nowhere'"),
            ("LORA --engine vllm --full", "Leave it out"),
            ("LORA --engine vllm --lora-rank 16", "This run's adapter has rank 24"),
            ("FULL --engine vllm", "Add --full"),
            ("ADAPTER --engine vllm", "give some/base --lora-rank 4"),
        ],
    )
    def test_options(
        self, words: str, said: str, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Prevents: an option that is ignored, weights that anybody may replace, and a server that no run can use."""
        tiny = str(tiny_folder("qwen3"))
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base", "r": 4}')
        places = {
            "TINY": lambda: tiny, "ADAPTER": lambda: str(tmp_path / "adapter"), "FULL": lambda: str(a_run(tmp_path / "full", name=tiny)),
            "LORA": lambda: str(a_run(tmp_path / "lora", name=tiny, method="lora", lora_rank=24)),
        }
        pretend_installed(monkeypatch)
        monkeypatch.setattr(serving, "run_server", lambda settings: pytest.fail(f"it was started: {settings}"))
        error = heron(*(places[word]() if word in places else word for word in words.split())).exception
        assert isinstance(error, HeronError) and error.exit_code == 2 and said in str(error), repr(error)

    def test_vllm_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a minute's wait for the hub before one learns that it was for nothing."""
        pretend_installed(monkeypatch, is_there=False)
        error = heron("owner/name", "--engine", "vllm").exception
        assert isinstance(error, MissingExtra) and "heron-rl[vllm]" in str(error)

    def test_port_in_use(self) -> None:
        """Prevents: another server's answer taken for vLLM's."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
                run_server(settings(port=other.getsockname()[1]), is_cpu=False)


class TestRunning:
    """Started, answering, ended."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_one_signal_ends_it(self, number: int, told: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Prevents: a server that outlives `heron serve`, hears Ctrl-C twice, or whose exit code is lost."""
        before = signal.getsignal(number)
        signals_when(told.with_suffix(".asked"), number)
        assert run_server(settings(), is_cpu=False) == 7
        about = json.loads(told.read_text())
        assert told.with_suffix(".heard").read_text().split() == [str(int(number))] and about["group"] == about["pid"]
        assert signal.getsignal(number) is before
        assert "vLLM answers at" in capfd.readouterr().out

    def test_second_signal_kills(self, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a vLLM that hangs while it ends and cannot be got rid of, or leaves a worker on the GPU."""
        monkeypatch.setenv("STUB_MODE", "stubborn")
        signals_when(told.with_suffix(".asked"), signal.SIGINT, signal.SIGINT)
        began = time.monotonic()
        assert run_server(settings(), is_cpu=False) == 128 + signal.SIGKILL and time.monotonic() - began < launch.CLEANING_SECONDS
        worker = Path(f"/proc/{json.loads(told.read_text())['worker']}/stat")
        until = time.monotonic() + 5
        while worker.exists() and worker.read_text().split()[2] != "Z":
            assert time.monotonic() < until
            time.sleep(0.05)

    def test_time_to_clean_up(self, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: hundreds of megabytes left in shared memory, as the process that takes them away was killed before it could."""
        monkeypatch.setenv("STUB_MODE", "cleans")
        signals_when(told.with_suffix(".asked"), signal.SIGTERM)
        assert run_server(settings(), is_cpu=False) == 7
        assert Path(f"{told}.clean").exists()

    def test_signal_while_it_starts(self, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: Ctrl-C lost between the command and its process."""
        start = launch.subprocess.Popen

        def interrupted(*arguments: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return start(*arguments, **options)

        monkeypatch.setattr(launch.subprocess, "Popen", interrupted)
        assert run_server(settings(), is_cpu=False) == 128 + signal.SIGTERM

    def test_variables_of_the_shell(self, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: development endpoints opened, or a key asked for, by what was left in a shell."""
        for name, value in {"VLLM_SERVER_DEV_MODE": "1", "VLLM_API_KEY": "old", "VLLM_CPU_KVCACHE_SPACE": "40", "HF_HOME": "/here"}.items():
            monkeypatch.setenv(name, value)
        signals_when(told.with_suffix(".asked"), signal.SIGTERM)
        run_server(settings(), is_cpu=True)
        variables = json.loads(told.read_text())["variables"]
        assert variables["VLLM_SERVER_DEV_MODE"] == "0" and variables["HF_HOME"] == "/here"
        assert not variables.keys() & {"VLLM_API_KEY", "VLLM_CPU_KVCACHE_SPACE"}

    def test_death_before_it_answers(self, told: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """Prevents: waiting for ever, and success where nothing was served."""
        monkeypatch.setenv("STUB_MODE", "fails")
        assert run_server(settings(), is_cpu=False) == 3
        heard = capfd.readouterr()
        assert "ended with exit code 3 before it answered" in heard.err and "vllm_url" not in heard.out

    def test_command_line(self, told: Path, tiny_folder: Callable[[str], Path]) -> None:
        """Prevents: options that do not arrive, a command shown that is not the one run, and advice that a recipe refuses."""
        port = free_port()
        signals_when(told.with_suffix(".asked"), signal.SIGTERM)
        options = ["--port", str(port), "--max-model-len", "300", "--lora-rank", "4", "--cache-gib", "0.25"]
        ended = heron(str(tiny_folder("qwen3")), "--engine", "vllm", *options)
        assert ended.exit_code == 7, ended.output
        words = json.loads(told.read_text())["words"]
        assert words[words.index("--model") + 1] == str(tiny_folder("qwen3")) and words[words.index("--dtype") + 1] == "float32"
        assert {"300", "8", str(2**28)} <= set(words)
        line = next(line for line in ended.output.splitlines() if line.startswith("starting "))
        assert shlex.split(line)[-len(words) :] == words
        recipe = ended.output[ended.output.index("[rollout]") :]
        config = load_config("arithmetic", tomllib.loads(recipe))
        assert (config.rollout.engine, config.rollout.vllm_url) == ("vllm", f"http://127.0.0.1:{port}")
        assert Path(config.rollout.vllm_folder or "").is_absolute()
