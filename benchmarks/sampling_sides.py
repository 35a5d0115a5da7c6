"""The engines of `benchmarks.sampling`, all asked the same way: sample a load's answers to these prompts.

Each side runs with the settings that suit it on one thread of a CPU. Only tokens are asked of the peers; Heron gives log-probs and
entropies with them, as always. A side counts its useful tokens itself: those up to an end token, that included. Seconds are its own
process's, by the processor and by the clock. What it leaves out: loads (`sampling_loads`) and what is made of the seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import IO, Any, Protocol

import torch

from benchmarks.sampling_loads import Load
from heron.config.model import ModelConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.kernels.matmul import Route, choose_route, using
from heron.models import load_policy
from heron.types import Completion, Tags

HERON, BATCHING, VLLM = "Heron", "HF continuous batching", "vLLM"
HF, HF_STATIC = "HF generate", "HF with a static cache"
"""`generate` as everybody calls it, and with a cache that is set aside at once: which one is faster depends on the lengths."""
Prompts = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One round of one side."""

    tokens: int
    """Useful ones."""
    cpu: float
    """Seconds of the processor, all threads."""
    wall: float
    """Seconds by the clock."""


class Side(Protocol):
    """An engine with a model loaded."""

    def sample(self, load: Load, prompts: Prompts, seed: int) -> Sampled:
        """All answers to all prompts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Useful tokens a second, of the median round."""

    cpu: float
    """By the processor."""
    wall: float
    """By the clock."""
    tokens: float
    """In a round."""

    @classmethod
    def of(cls, rounds: Sequence[Sampled]) -> Speed:
        """Of these rounds."""
        return cls(
            cpu=median(one.tokens / one.cpu for one in rounds), wall=median(one.tokens / one.wall for one in rounds),
            tokens=median(one.tokens for one in rounds),
        )

    def __str__(self) -> str:
        return f"{self.cpu:.0f} ({self.wall:.0f} by the clock)"


def take_turns(sides: dict[str, Side], load: Load, vocabulary: int, *, rounds: int) -> dict[str, Speed]:
    """Every round has prompts of its own, the same for all sides. A round of four tokens goes before and is not counted."""
    for side in sides.values():
        side.sample(replace(load, max_tokens=4), load.draw(vocabulary, seed=0), seed=0)
    found: dict[str, list[Sampled]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        prompts = load.draw(vocabulary, seed=number)
        for name, side in sides.items():
            found[name].append(side.sample(load, prompts, seed=number))
    return {name: Speed.of(samples) for name, samples in found.items()}


class Heron:
    """The native engine on a policy, multiplying by the route that a training run would take.

    The modules are recorded before anything is timed, as vLLM starts before: both happen once in a run, however many steps it has.
    """

    def __init__(self, folder: Path, dtype: str, *, slots: int = 256) -> None:
        self.policy = load_policy(ModelConfig(name=str(folder), dtype=dtype, device="cpu"), Tags())
        self.engine = NativeEngine(self.policy, max_concurrent=slots)
        shapes = [(rows, *shape) for rows in (16, 256) for shape in self.policy.linear_shapes()]
        self.route = choose_route(shapes) if dtype == "float32" else Route()
        began = time.perf_counter()
        self.policy.recorder.replay()
        self.way = f"{self.route.name} route; modules recorded once in {time.perf_counter() - began:.1f} s"

    def sample(self, load: Load, prompts: Prompts, seed: int) -> Sampled:
        with _Watch() as watch:
            groups = self.generate(load, prompts, seed)
        return watch.sampled(sum(len(completion.token_ids) for group in groups for completion in group))

    def generate(self, load: Load, prompts: Prompts, seed: int) -> list[list[Completion]]:
        """The answers themselves."""
        requests = self.requests(load, prompts, seed)
        with using(self.route), self.engine.awake():
            return self.engine.generate(requests, SamplingParams(max_tokens=load.max_tokens))

    def requests(self, load: Load, prompts: Prompts, seed: int) -> list[Request]:
        """One for each prompt; the policy knows the load's end tokens from now on."""
        self.policy.end_ids = frozenset(load.ends)
        return [
            Request(prompt_ids=prompt, seeds=tuple(range(first, first + load.siblings)))
            for prompt, first in zip(prompts, range(1000 * seed, 1000 * seed + load.answers, load.siblings), strict=True)
        ]


class HuggingFace:
    """transformers' `generate` on a padded batch of all answers, attention by SDPA; with the default cache unless another is named."""

    def __init__(self, folder: Path, dtype: str, *, cache: str | None = None) -> None:
        self.model = _transformers_model(folder, dtype)
        self.cache = cache

    def sample(self, load: Load, prompts: Prompts, seed: int) -> Sampled:
        torch.manual_seed(seed)
        with _Watch() as watch:
            output = self.generate(load, prompts)
        answers = output.sequences[:, load.prompt_tokens :].tolist()
        return watch.sampled(sum(useful_tokens(answer, load.ends) for answer in answers))

    def generate(self, load: Load, prompts: Prompts) -> Any:
        """transformers' own output, cache included."""
        ids = torch.tensor([prompt for prompt in prompts for _ in range(load.siblings)])  # [answers, prompt]
        self.model.generation_config.eos_token_id = list(load.ends) or None
        with torch.inference_mode():
            return self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=load.max_tokens, return_dict_in_generate=True, cache_implementation=self.cache,
            )


class ContinuousBatching:
    """transformers' `generate_batch`: paged, with refilled slots. Without explicit sizes it takes most of the machine's memory."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.model = _transformers_model(folder, dtype)

    def sample(self, load: Load, prompts: Prompts, seed: int) -> Sampled:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=load.max_tokens, num_return_sequences=load.siblings,
            eos_token_id=list(load.ends) or -1, pad_token_id=1,
        )
        batching = ContinuousBatchingConfig(num_blocks=512, page_size=32, max_batch_tokens=512, seed=seed)
        with _Watch() as watch:
            outputs = self.model.generate_batch(
                [list(prompt) for prompt in prompts], generation_config=config, continuous_batching_config=batching
            )
        answers = [output.generated_tokens for output in outputs.values()]
        if len(answers) != load.answers:
            raise RuntimeError(f"generate_batch gave {len(answers)} answers where {load.answers} were asked for.")
        return watch.sampled(sum(useful_tokens(answer, load.ends) for answer in answers))


class Vllm:
    """vLLM's CPU build in a process of its own (`sampling_vllm_worker`), which keeps the model and answers one round at a time."""

    def __init__(self, python: Path, folder: Path, dtype: str, log: Path) -> None:
        self.log = log
        worker = Path(__file__).with_name("sampling_vllm_worker.py")
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(python), str(worker), str(folder), dtype], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment, cwd=log.parent,
            )
        self.version = str(self._answer()["version"])

    def sample(self, load: Load, prompts: Prompts, seed: int) -> Sampled:
        asked = {
            "prompts": [list(prompt) for prompt in prompts], "siblings": load.siblings, "max_tokens": load.max_tokens,
            "ends": list(load.ends), "seed": seed,
        }
        self._pipe(self.process.stdin).write(json.dumps(asked) + "\n")
        self._pipe(self.process.stdin).flush()
        return Sampled(**self._answer())

    def close(self) -> None:
        """End the process."""
        self._pipe(self.process.stdin).close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        line = self._pipe(self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"vLLM's process has ended:\n{self.log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None, "the process was started with pipes"
        return pipe


def transformers_sides(folder: Path, dtype: str) -> dict[str, Side]:
    """`generate` in both of its ways."""
    return {HF: HuggingFace(folder, dtype), HF_STATIC: HuggingFace(folder, dtype, cache="static")}


@contextlib.contextmanager
def vllm(python: Path | None, folder: Path, dtype: str, scratch: Path) -> Iterator[dict[str, Side]]:
    """Its side by name, or nothing where there is no vLLM; the process ends with the block."""
    if python is None:
        yield {}
        return
    side = Vllm(python, folder, dtype, scratch / "vllm.log")
    try:
        yield {VLLM: side}
    finally:
        side.close()


def useful_tokens(answer: Sequence[int], ends: Sequence[int]) -> int:
    """Up to the first end token, that included; what follows is padding."""
    stops = set(ends)
    return next((place + 1 for place, token in enumerate(answer) if token in stops), len(answer))


def _transformers_model(folder: Path, dtype: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


class _Watch:
    """Seconds of a block."""

    def __enter__(self) -> _Watch:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu

    def sampled(self, tokens: int) -> Sampled:
        return Sampled(tokens=tokens, cpu=self.cpu, wall=self.wall)
