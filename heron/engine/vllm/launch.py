"""Starting vLLM's own server, for runs that push their weights into it.

The one hard idea: the command line that is shown is all that vLLM is told. What it takes from the environment stands there too, as words
for `env`: what was not asked for is unset or switched off, so that a variable left in a shell cannot open what an option keeps shut. The
server runs in a process group of its own, as else Ctrl-C at a terminal would reach it twice and its workers at once; it ends with this
process, however that ends (`heron.children`). What it leaves out:
what MODEL means and which options go together (`heron.serving.vllm`), and starting it again when it has died.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from heron import children
from heron.engine.vllm.client import Client
from heron.engine.vllm.weights import RANKS
from heron.errors import ConfigError, EngineError
from heron.folders import cache_folder

MODULE = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` runs. The CPU build has no working `vllm serve`."""
CPU_CACHE_GIB = 1.0
"""Of the CPU build where nothing is said: left to itself it takes nearly all memory, and the trainer may be on the same machine."""
CLEANING_SECONDS = 10.0
"""How long what the server has started may outlive it; and how long it may take itself, where this process was killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server is started with."""

    model: str
    """Folder or hub id."""
    dtype: str
    """Of the weights, `float32` or another; the trainer's."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on."""
    token: str | None = None
    """Clients must send it, to `/v1` at least: vLLM asks for it nowhere else."""
    max_model_len: int | None = None
    """Most tokens of a prompt with its answer; None for the model's context."""
    lora_rank: int = 16
    """Largest adapter; 0 for no adapters."""
    takes_weights: bool = False
    """Whether vLLM's development endpoints are open, by which every weight can be replaced."""
    cache_gib: float | None = None
    """Memory for keys and values; None leaves it to vLLM on a GPU, and takes 1 GiB on a CPU."""

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def run_server(settings: Settings, *, is_cpu: bool | None = None) -> int:
    """Run vLLM's server until it ends; Ctrl-C and a request to terminate are passed on to it. Returns its exit code.

    Args:
        settings: what to start.
        is_cpu: whether the vLLM that is installed is a CPU build; None looks.
    """
    _check_free(settings.host, settings.port)
    words = command(settings, is_cpu=is_cpu_build() if is_cpu is None else is_cpu)
    print(f"starting {shown(words)}", flush=True)
    with _running(words) as process:
        has_answered = _is_answering(process, settings.url)
        if has_answered:
            print(f"vLLM answers at {settings.url} (Ctrl-C ends it, a second one kills it)\n{advice(settings)}", flush=True)
        ended = process.wait()
    code = ended if ended >= 0 else 128 - ended  # as shells say it of a process that a signal has ended
    if not has_answered:
        print(f"vLLM ended with exit code {code} before it answered; what it wrote above says why.", file=sys.stderr, flush=True)
    return code


def command(settings: Settings, *, is_cpu: bool) -> list[str]:
    """The words of the command, those for the environment first."""
    variables = environment(settings)
    unset = [word for name, value in variables.items() if value is None for word in ("-u", name)]
    return ["env", *unset, *(f"{name}={value}" for name, value in variables.items() if value is not None),
            sys.executable, "-m", MODULE, *arguments(settings, is_cpu=is_cpu)]


def environment(settings: Settings) -> dict[str, str | None]:
    """What vLLM takes from the environment alone; None is unset. The token is here, as vLLM's log repeats arguments."""
    return {
        "VLLM_API_KEY": settings.token,
        "VLLM_CPU_KVCACHE_SPACE": None,  # would go before --kv-cache-memory-bytes
        "VLLM_SERVER_DEV_MODE": str(int(settings.takes_weights)),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": str(int(settings.lora_rank > 0)),
        "VLLM_NO_USAGE_STATS": "1",
    }


def arguments(settings: Settings, *, is_cpu: bool) -> list[str]:
    """Processed log-probs and the count of cached tokens are what the probe after each push asks for."""
    cache_gib = CPU_CACHE_GIB if is_cpu and settings.cache_gib is None else settings.cache_gib
    options = {
        "model": settings.model, "revision": settings.revision, "served-model-name": "base", "dtype": settings.dtype,
        "host": settings.host, "port": settings.port, "max-model-len": settings.max_model_len,
        "kv-cache-memory-bytes": None if cache_gib is None else int(cache_gib * 2**30), "logprobs-mode": "processed_logprobs",
    }
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    adapters = ["--enable-lora", "--max-lora-rank", str(_room_for(settings.lora_rank)), "--max-loras", "1"]
    return [*words, "--enable-prompt-tokens-details", *(adapters if settings.lora_rank else ()), *(["--enforce-eager"] if is_cpu else ())]


def shown(words: list[str]) -> str:
    """The command to be pasted into a shell, but for the token."""
    return shlex.join("VLLM_API_KEY=..." if word.startswith("VLLM_API_KEY=") else word for word in words)


def advice(settings: Settings) -> str:
    """What a run needs so that it uses this server."""
    if settings.token is not None:
        return "A recipe holds no token; heron.engine.vllm.ServedVllm(policy, url, shared_folder=..., api_key=TOKEN) sends it."
    takes = ["model.method = full"] if settings.takes_weights else []
    takes += [f"adapters up to model.lora_rank = {_room_for(settings.lora_rank)}"] if settings.lora_rank else []
    folder = json.dumps(str(cache_folder() / "vllm"))
    return (f"Put into the recipe of the run ({' and '.join(takes)}):\n\n[rollout]\nengine = \"vllm\"\nvllm_url = \"{settings.url}\"\n"
            f"vllm_folder = {folder}  # or any folder that this server and the trainer see under one path\n")


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed was built for CPUs: the community's `vllm-cpu`, or vLLM's own with `+cpu` in its version."""
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            return name == "vllm-cpu" or "+cpu" in version
    return False


def _room_for(rank: int) -> int:
    """vLLM makes room for some ranks alone; the smallest that is enough."""
    if rank > RANKS[-1]:
        raise ConfigError(f"The adapter has rank {rank}, but vLLM takes at most {RANKS[-1]}. Lower it, or use the native engine.")
    return min(room for room in RANKS if room >= rank)


def _check_free(host: str, port: int) -> None:
    """Refuse now what vLLM would refuse half a minute later, or what another server would answer in its place."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"The server cannot listen on {host}:{port}: {error}. Choose another port or host.") from error


@contextlib.contextmanager
def _running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a group of its own. The first signal to this process is passed on to it, the second kills it with all that it started."""
    heard: list[int] = []
    started: list[children.Child] = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        for child in started:
            _pass_on(child, number, is_first=len(heard) == 1)

    kept = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, hear) for number in kept}
    try:
        started.append(children.start(words, grace=CLEANING_SECONDS, stdin=subprocess.DEVNULL, process_group=0))
        for number in heard[:1]:  # it came while the child was being started
            _pass_on(started[0], number, is_first=True)
        yield started[0].process
    finally:
        for child in started:
            child.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(child: children.Child, number: int, *, is_first: bool) -> None:
    if is_first:
        child.process.send_signal(number)
    else:
        child.kill()


def _is_answering(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers; False if it has ended."""
    client = Client(url, timeout=5)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return False
        with contextlib.suppress(EngineError):  # nobody listens there yet
            if client.call("GET", "/health", awaited="a sign of life").is_good:
                return True
