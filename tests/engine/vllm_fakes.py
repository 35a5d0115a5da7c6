"""A vLLM that runs everywhere: its own copy of a tiny model's weights behind the few calls that Heron makes of the library and the server.

It keeps what makes vLLM go wrong: a head of its own beside a tied embedding, adapters by name, a prefix cache that outlives a push, pushes
that are taken in part without a word. Switches named after faults switch them on.
"""

from __future__ import annotations

import copy
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

BLOCK = 8


class FakeWeights:
    """Weights that change only when they are pushed."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM

        self.base = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.heads = {"": self.base.lm_head.weight.detach().clone()}
        self.models: dict[str, Any] = {"": self.base}
        self.used_names: list[str] = []
        self.cache: set[tuple[str, tuple[int, ...]]] = set()
        self.lock = threading.Lock()
        self.pushes = 0
        self.is_stale = False
        self.drops: str | None = None
        self.keeps_cache = False
        self.reports_raw = False

    def load(self, tensors: Any) -> None:
        """Take what is given; what is not keeps its old value, and nobody is told."""
        self.pushes += 1
        given = {name: tensor for name, tensor in tensors if self.drops is None or self.drops not in name}
        if self.is_stale:
            return
        own = dict(self.base.named_parameters())
        with torch.no_grad():
            for name, tensor in given.items():
                if name == "lm_head.weight":
                    self.heads[""] = tensor.clone()
                else:
                    own[name].copy_(tensor)

    def add(self, name: str, folder: str) -> None:
        """Read an adapter."""
        from peft import PeftModel

        self.pushes += 1
        self.used_names.append(name)
        adapted = PeftModel.from_pretrained(copy.deepcopy(self.models[""]), folder).eval()
        last = [known for known in self.models if known]
        self.models[name] = self.models[last[-1]] if self.is_stale and last else self.base if self.is_stale else adapted

    def remove(self, name: str) -> None:
        if not self.is_stale:
            del self.models[name]

    def reset(self) -> bool:
        if not self.keeps_cache:
            self.cache.clear()
        return True

    def logits(self, token_ids: list[int], name: str) -> Tensor:
        """`[L, V]`."""
        model = self.models[name]
        with self.lock, torch.no_grad():
            decoder = (model.get_base_model() if name and hasattr(model, "peft_config") else model).get_decoder()
            hidden: Tensor = decoder(input_ids=torch.tensor([token_ids])).last_hidden_state[0]
            return hidden @ self.heads[""].T

    def forced(self, token_ids: list[int], name: str) -> list[float]:
        logprobs = self.logits(token_ids, name)[:-1].log_softmax(-1)
        return [float(logprobs[place, token]) for place, token in enumerate(token_ids[1:])]

    def draw(self, token_ids: list[int], name: str, temperature: float, generator: torch.Generator) -> tuple[int, float]:
        row = self.logits(token_ids, name)[-1]
        logprobs = (row / (temperature or 1.0)).log_softmax(-1)
        token = int(row.argmax()) if temperature == 0 else int(torch.multinomial(logprobs.exp(), 1, generator=generator))
        return token, float((row.log_softmax(-1) if self.reports_raw else logprobs)[token])

    def cached(self, token_ids: list[int], name: str, *, reads: bool) -> int:
        """Tokens of whole blocks that were computed before; then they all have been."""
        blocks = [tuple(token_ids[:end]) for end in range(BLOCK, len(token_ids), BLOCK)]
        found = sum((name, block) in self.cache for block in blocks) if reads else 0
        self.cache |= {(name, block) for block in blocks}
        return found * BLOCK


class FakeEngine:
    """The part of vLLM's `LLMEngine` that Heron uses."""

    def __init__(self, weights: FakeWeights, max_model_len: int) -> None:
        self.weights = weights
        self.vllm_config = SimpleNamespace(
            cache_config=SimpleNamespace(block_size=BLOCK), model_config=SimpleNamespace(max_model_len=max_model_len)
        )
        self.engine_core = SimpleNamespace(shutdown=lambda: self.log.append("shutdown"))
        self.open: dict[str, SimpleNamespace] = {}
        self.asked: list[SimpleNamespace] = []
        self.adapters: dict[int, str] = {}
        self.log: list[str] = []
        self.is_stuck = False
        self.reason: str | None = None

    def add_request(self, key: str, prompt: dict[str, Any], params: Any, lora_request: Any = None) -> None:
        name = "" if lora_request is None else lora_request.name
        generator = torch.Generator().manual_seed(getattr(params, "seed", 0))
        one = SimpleNamespace(key=key, ids=list(prompt["prompt_token_ids"]), params=params, name=name, said=0, generator=generator)
        one.prompt, one.cached = list(one.ids), self.weights.cached(one.ids, name, reads=not hasattr(params, "prompt_logprobs"))
        self.open[key] = one
        self.asked.append(one)

    def step(self) -> list[Any]:
        return [] if self.is_stuck else [self._say(one) for one in list(self.open.values())]

    def _say(self, one: SimpleNamespace) -> Any:
        token, logprob = self.weights.draw(one.ids, one.name, one.params.temperature, one.generator)
        one.ids.append(token)
        one.said += 1
        ended = "stop" if token in getattr(one.params, "stop_token_ids", ()) else "length" if one.said == one.params.max_tokens else None
        reason = self.reason or ended
        if reason is not None:
            del self.open[one.key]
        entries: Any = None
        if hasattr(one.params, "prompt_logprobs"):
            forced = self.weights.forced(one.prompt, one.name)
            entries = [None, *({token: SimpleNamespace(logprob=value)} for token, value in zip(one.prompt[1:], forced, strict=True))]
        said = SimpleNamespace(token_ids=[token], logprobs=[{token: SimpleNamespace(logprob=logprob)}], finish_reason=reason)
        return SimpleNamespace(
            request_id=one.key, outputs=[said], num_cached_tokens=one.cached, prompt_logprobs=entries, prompt_token_ids=one.prompt,
        )

    def abort_request(self, keys: list[str]) -> None:
        for key in keys:
            self.open.pop(key, None)

    def add_lora(self, request: Any) -> bool:
        assert request.number not in self.adapters
        self.weights.add(request.name, request.path)
        self.adapters[request.number] = request.name
        return True

    def remove_lora(self, number: int) -> bool:
        self.weights.remove(self.adapters.pop(number))
        return True

    def list_loras(self) -> set[int]:
        return set(self.adapters)

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        self.weights.load(kwargs["weights_iterator"])

    def reset_prefix_cache(self) -> bool:
        return self.weights.reset()

    def sleep(self, level: int) -> None:
        self.log.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.log.append("wake")


class FakeLibrary:
    """What was started, once it was."""

    engine: FakeEngine
    settings: dict[str, Any]


def install(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """Put a package `vllm` in place that starts `FakeEngine`s, and disturbs the process as the real one does."""
    started = FakeLibrary()

    def start(**arguments: Any) -> FakeEngine:
        import random

        torch.set_num_threads = lambda count: None
        random.seed(0)
        torch.manual_seed(0)
        settings = arguments["vllm_config"].arguments
        started.settings = settings | {"backend": arguments["vllm_config"].parallel_config.distributed_executor_backend}
        started.engine = FakeEngine(FakeWeights(settings["model"]), settings["max_model_len"] or 512)
        return started.engine

    def engine_args(**arguments: Any) -> Any:
        config = SimpleNamespace(arguments=arguments, parallel_config=SimpleNamespace(distributed_executor_backend="mp"))
        return SimpleNamespace(create_engine_config=lambda: config)

    def lora_request(name: str, number: int, path: str) -> Any:
        return SimpleNamespace(name=name, number=number, path=path)

    contents: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": lambda **arguments: SimpleNamespace(**arguments)},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
        "vllm.lora": {}, "vllm.lora.request": {"LoRARequest": lora_request},
        "vllm.engine": {}, "vllm.engine.arg_utils": {"EngineArgs": engine_args},
        "vllm.v1": {}, "vllm.v1.engine": {}, "vllm.v1.engine.llm_engine": {"LLMEngine": start},
        "vllm.v1.executor": {"Executor": SimpleNamespace(get_class=lambda config: None)},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return started


class FakeServer(ThreadingHTTPServer):
    """The part of vLLM's HTTP interface that Heron uses."""

    daemon_threads = True

    def __init__(self, folder: Path, *, is_dev: bool = False, takes_adapters: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.weights = FakeWeights(str(folder))
        self.is_dev, self.takes_adapters = is_dev, takes_adapters
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hangs_on = ""
        """Path that is not answered for a while."""
        self.answers_left: int | None = None
        """Completions that are answered at once before the others wait."""
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def must_wait(self) -> bool:
        """Counts down."""
        with self.weights.lock:
            if self.answers_left is None:
                return False
            self.answers_left -= 1
            return self.answers_left < 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is no news."""

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "tiny", "parent": None}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.headers.append(dict(self.headers))
        if self.path == server.hangs_on:
            server.released.wait(20)
        if self.path == "/v1/load_lora_adapter" and server.takes_adapters:
            if body["lora_name"] in server.weights.used_names:
                return self._send(400, {"error": {"message": "already loaded"}})
            server.weights.add(body["lora_name"], body["lora_path"])
            return self._send(200, "ok")
        if self.path == "/v1/unload_lora_adapter" and server.takes_adapters:
            server.weights.remove(body["lora_name"])
            return self._send(200, "ok")
        if self.path == "/reset_prefix_cache" and server.is_dev:
            return self._send(200, {"success": server.weights.reset()})
        if self.path == "/collective_rpc" and server.is_dev:
            from safetensors.torch import load_file

            (file,) = Path(body["kwargs"]["weights_path"]).glob("*.safetensors")
            server.weights.load(load_file(file).items())
            return self._send(200, {"results": [None]})
        if self.path == "/v1/completions":
            if server.must_wait():
                server.released.wait(20)
            return self._complete(body)
        return self._send(404, {"detail": "Not Found"})

    def _complete(self, body: dict[str, Any]) -> None:
        self.server.asked.append(body)
        weights, ids, name = self.server.weights, list(body["prompt"]), "" if body["model"] == "tiny" else body["model"]
        if name not in weights.models:
            return self._send(404, {"error": {"message": f"The model {name} does not exist."}})
        cached = weights.cached(ids, name, reads="prompt_logprobs" not in body)
        generator, said, logprobs, reason = torch.Generator().manual_seed(body.get("seed", 0)), [], [], "length"
        while len(said) < body["max_tokens"]:
            token, logprob = weights.draw([*ids, *said], name, body["temperature"], generator)
            said.append(token)
            logprobs.append(logprob)
            if token in body.get("stop_token_ids", ()):
                reason = "stop"
                break
        choice: dict[str, Any] = {"token_ids": said, "logprobs": {"token_logprobs": logprobs}, "finish_reason": reason}
        if "prompt_logprobs" in body:
            forced = zip(ids[1:], weights.forced(ids, name), strict=True)
            choice["prompt_logprobs"] = [None, *({str(token): {"logprob": value}} for token, value in forced)]
        time.sleep(0.001 * len(said))
        return self._send(200, {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}})

    def _send(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
