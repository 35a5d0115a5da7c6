"""Memory of the cache: what Heron's pages take while it samples, against what transformers' cache holds at the end of the same work.

    python -m benchmarks.sampling_memory MODEL DTYPE

prints, of Heron, the megabytes of all pages that were ever written, those by which the process grew (activations and logits as well), and
the longest answer's tokens: a process of its own, since what one call leaves in the allocator hides the peak of the next. A page of the
cache takes no memory before it is first written, and keeps it. Of transformers only keys and values count, computed from their shapes (a
row for each answer, as wide as the longest; a test holds the formula against a real cache).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sampling_checks import Check
from benchmarks.sampling_loads import SMALL, Load, Shape, rollout

if TYPE_CHECKING:
    from benchmarks.sampling_sides import Heron
    from heron.engine.native.store import Store

GOAL = 0.25
PROMPT = 512
SEED = 1
SIZES = {"float32": 4, "bfloat16": 2}
"""Bytes of a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """By Heron, in megabytes."""

    pages: float
    """Of the cache, ever written."""
    growth: float
    """Of the process."""
    longest: int
    """Tokens of the longest answer."""


def measure(model: Path, dtype: str) -> list[Check]:
    """Heron's pages over transformers' cache; and, as the harder comparison, all that Heron adds over that cache."""
    used = _in_process(model, dtype)
    cache = padded_megabytes(SMALL, load(), used.longest, SIZES[dtype])
    what = f"8 prompts of {PROMPT} tokens x 8, {dtype}: over the cache of HF generate"
    return [
        Check(what=f"memory of the cache, {what}", figure=used.pages / cache, goal=GOAL, at_most=True,
              behind=f"{used.pages:.0f} MB, HF's keys and values {cache:.0f} MB (computed)"),
        Check(what=f"all memory that sampling adds, {what}", figure=used.growth / cache, at_most=True, behind=f"{used.growth:.0f} MB"),
    ]


def load() -> Load:
    """The rollout with a longer prompt."""
    return rollout(SMALL, prompt_tokens=PROMPT)


def padded_megabytes(shape: Shape, load: Load, longest: int, size: int) -> float:
    """Keys and values of a cache with a row for each answer, when the longest has said its last token (which is never fed)."""
    numbers = 2 * shape.layers * load.answers * (load.prompt_tokens + longest - 1) * shape.key_heads * 64
    return numbers * size / 2**20


def written_megabytes(store: Store) -> float:
    """Of all pages of the cache that hold anything."""
    held = sum(int(keys.flatten(1).any(1).sum()) for keys in store.keys.values()) / len(store.keys)
    return held * store.bytes_per_page / 2**20


def _in_process(model: Path, dtype: str) -> Used:
    command = [sys.executable, "-m", "benchmarks.sampling_memory", str(model), dtype]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    return Used(**json.loads(output.splitlines()[-1]))


def _main(arguments: Sequence[str]) -> None:
    import torch

    from benchmarks.sampling_sides import Heron

    torch.set_num_threads(1)
    side = Heron(Path(arguments[0]), arguments[1])
    few = replace(load(), prompts=1, siblings=1, prompt_tokens=8, max_tokens=2)
    side.generate(few, few.draw(SMALL.vocabulary, SEED), SEED)  # libraries, and what they set up once
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _megabytes("VmRSS")
    longest, store = _sample(side)
    print(json.dumps(asdict(Used(pages=written_megabytes(store), growth=_megabytes("VmHWM") - before, longest=longest))))


def _sample(side: Heron) -> tuple[int, Store]:
    """The longest answer's tokens, and the cache as it was left."""
    from heron.engine import SamplingParams
    from heron.kernels.matmul import using

    requests = side.requests(load(), load().draw(SMALL.vocabulary, SEED), SEED)
    with using(side.route):
        session = side.engine.stream(requests, SamplingParams(max_tokens=load().max_tokens))
        return max(len(finished.completion.token_ids) for finished in session), session.runner.store


def _megabytes(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: peaks can be measured on Linux only.")


if __name__ == "__main__":
    _main(sys.argv[1:])
