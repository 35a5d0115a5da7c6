"""Decoding on a GPU: tokens a second of the native engine and of transformers' continuous batching, and its share of the bandwidth.

    python -m benchmarks.sampling_gpu [--quick] [--write]

Models with random bfloat16 weights in the shapes of Qwen3-0.6B and Llama-3.1-8B; 64 and 256 sequences that share nothing, 128 tokens of
prompt and 512 new ones each. The one hard idea: a decode step must read all weights of its products and all keys and values once, so the
bandwidth, measured first, bounds the tokens a second. Prompts and the capture of CUDA graphs are in the time and not in that bound. Heron
gives log-probs and entropies, the peer tokens alone. Not yet run on a GPU. There is no bar: without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import datetime
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.machine import installed
from benchmarks.report import RESULTS, Table

NAME = "sampling_gpu"
SEQUENCES = (64, 256)
ROUNDS = 3
HERON, BATCHING = "Heron", "HF continuous batching"
COLUMNS = ("side", "model", "sequences", "tokens a second", "bound", "share")
BANDWIDTH_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model without its weights."""

    name: str
    """Whose shape it is."""
    family: str
    """In transformers."""
    settings: dict[str, Any]
    """Of its config."""

    def config(self) -> Any:
        """The transformers config."""
        import transformers

        return getattr(transformers, f"{self.family}Config")(**self.settings, bos_token_id=None, eos_token_id=0, pad_token_id=1)

    def bytes_of_products(self) -> int:
        """Weights that every step reads: those of the linear layers, the head included, in bfloat16."""
        s = self.settings
        heads = (2 * s["num_attention_heads"] + 2 * s["num_key_value_heads"]) * s["head_dim"]
        layer = s["hidden_size"] * (heads + 3 * s["intermediate_size"])
        return 2 * (s["num_hidden_layers"] * layer + s["hidden_size"] * s["vocab_size"])

    def bytes_of_token(self) -> int:
        """Keys and values of one token in all layers, in bfloat16."""
        s = self.settings
        return 2 * 2 * int(s["num_hidden_layers"] * s["num_key_value_heads"] * s["head_dim"])


QWEN = Shape(name="Qwen3-0.6B", family="Qwen3", settings={
    "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True, "max_position_embeddings": 40_960,
})
LLAMA = Shape(name="Llama-3.1-8B", family="Llama", settings={
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False, "max_position_embeddings": 131_072,
})


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked for."""

    sequences: int
    """At once; nobody shares a prompt."""
    prompt_tokens: int = 128
    """Of each."""
    new_tokens: int = 512
    """Of each; nothing ends early."""

    def prompts(self, vocabulary: int, seed: int) -> list[tuple[int, ...]]:
        """Random ones, the same for the same seed."""
        draw = random.Random(seed)
        return [tuple(draw.randrange(2, vocabulary) for _ in range(self.prompt_tokens)) for _ in range(self.sequences)]


Side = Callable[[Load, Sequence[tuple[int, ...]], int], int]
"""Samples from these prompts with this seed, and counts the new tokens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0."""
    options = parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 0
    bandwidth = read_bandwidth()
    shapes, counts = ((QWEN,), SEQUENCES[:1]) if options.quick else ((QWEN, LLAMA), SEQUENCES)
    made = table([row for shape in shapes for row in rows(shape, counts, bandwidth)], bandwidth)
    print(made.text())
    if options.write:
        write(made)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Decoding on a GPU.")
    made.add_argument("--quick", action="store_true", help="the smaller model and fewer sequences alone")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def rows(shape: Shape, counts: Sequence[int], bandwidth: float) -> Iterator[tuple[str, ...]]:
    """A row for each side and number of sequences; one side's model is in memory at a time."""
    for name, make in {HERON: heron, BATCHING: continuous_batching}.items():
        side = make(shape)
        for count in counts:
            load = Load(sequences=count)
            row = row_of(name, shape, load, speed(side, load, shape.settings["vocab_size"]), bandwidth)
            print("  ".join(row), flush=True)
            yield row
        del side
        torch.cuda.empty_cache()


def row_of(name: str, shape: Shape, load: Load, tokens_per_second: float, bandwidth: float) -> tuple[str, ...]:
    """Beside the bound that the bandwidth sets."""
    limit = bound(shape, load, bandwidth)
    return name, shape.name, str(load.sequences), f"{tokens_per_second:.0f}", f"{limit:.0f}", f"{tokens_per_second / limit:.0%}"


def bound(shape: Shape, load: Load, bandwidth: float) -> float:
    """Tokens a second if a step took no longer than reading weights, keys and values once, in the middle of the answers."""
    context = load.prompt_tokens + load.new_tokens / 2
    return load.sequences * bandwidth / (shape.bytes_of_products() + load.sequences * context * shape.bytes_of_token())


def table(found: Sequence[tuple[str, ...]], bandwidth: float) -> Table:
    """All of them."""
    load = Load(sequences=0)
    return Table(
        title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}: decoding (most tokens a second of {ROUNDS} rounds)",
        columns=COLUMNS, rows=tuple(found),
        notes=(
            f"Random weights in bfloat16; {load.prompt_tokens} tokens of prompt, {load.new_tokens} new ones; prompts and captures are in "
            f"the time. Measured bandwidth: {bandwidth / 1e9:.0f} GB/s.",
            f"transformers {installed('transformers')}, triton {installed('triton') or 'absent'}; continuous batching with its defaults.",
        ),
    )


def speed(side: Side, load: Load, vocabulary: int) -> float:
    """Tokens a second of the fastest round; a short one goes before and is not counted."""
    side(replace(load, new_tokens=8), load.prompts(vocabulary, 0), 0)
    most = 0.0
    for seed in range(1, ROUNDS + 1):
        prompts = load.prompts(vocabulary, seed)
        began = time.perf_counter()
        count = side(load, prompts, seed)
        seconds = time.perf_counter() - began
        assert count == load.sequences * load.new_tokens, f"{count} tokens came"
        most = max(most, count / seconds)
    return most


def heron(shape: Shape) -> Side:
    """The native engine."""
    from heron.engine import NativeEngine, Request, SamplingParams
    from heron.kernels import attention
    from heron.models import Policy
    from heron.models.embedded import build_tokenizer
    from heron.types import Tags

    attention.register()
    policy = Policy(_model(shape, attention.NAME), build_tokenizer(Tags()), tags=Tags(), source=shape.name)
    engine = NativeEngine(policy, max_concurrent=max(SEQUENCES))

    def side(load: Load, prompts: Sequence[tuple[int, ...]], seed: int) -> int:
        requests = [Request(prompt_ids=prompt, seeds=(1000 * seed + number,)) for number, prompt in enumerate(prompts)]
        groups = engine.generate(requests, SamplingParams(max_tokens=load.new_tokens, ignore_end=True))
        return sum(len(completion.token_ids) for group in groups for completion in group)

    return side


def continuous_batching(shape: Shape) -> Side:
    """transformers' `generate_batch`."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = _model(shape, "sdpa")

    def side(load: Load, prompts: Sequence[tuple[int, ...]], seed: int) -> int:
        config = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=load.new_tokens, eos_token_id=-1, pad_token_id=1
        )
        outputs = model.generate_batch(
            [list(prompt) for prompt in prompts], generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(seed=seed),
        )
        return sum(len(output.generated_tokens) for output in outputs.values())

    return side


def read_bandwidth() -> float:
    """Bytes a second that the GPU reads, by the fastest of several sums over a large tensor."""
    tensor = torch.ones(BANDWIDTH_BYTES // 4, device="cuda")
    least = float("inf")
    for _ in range(8):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        tensor.sum()
        ended.record()
        torch.cuda.synchronize()
        least = min(least, began.elapsed_time(ended) / 1000)
    return BANDWIDTH_BYTES / least


def write(made: Table) -> None:
    """Append a dated section."""
    path = RESULTS / f"{NAME}.md"
    opening = path.read_text() if path.is_file() else f"# {NAME}\n\nWritten by `python -m benchmarks.{NAME} --write`.\n"
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.write_text(f"{opening}\n## {today}\n\n{made.title}\n\n{made.markdown()}\n")
    print(f"written to {path}")


def _model(shape: Shape, attention: str) -> Any:
    """Random weights, made where they stay."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16, attn_implementation=attention).eval()


if __name__ == "__main__":
    raise SystemExit(main())
