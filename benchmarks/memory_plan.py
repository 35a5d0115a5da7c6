"""Memory as `heron plan` says it, against what a process takes, on the CPU.

    python -m benchmarks.memory_plan [--quick] [--write]

Each configuration (`memory_plan_cases`) is loaded, sampled and trained in a process of its own (`memory_plan_worker`), on a random model
written before. The bar is on the peak over all phases; the phases stand beside it. Left out: GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe_machine
from benchmarks.memory_plan_cases import CASES, Case, Shape, warm_shape
from benchmarks.report import Bar, Table, conclude

if TYPE_CHECKING:
    from heron.memory import Plan

NAME = "memory_plan"
GOAL = 0.10
PHASES = ("load", "sample", "train")
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0", "LRU_CACHE_CAPACITY": "1",
}
"""For glibc: what is freed goes back to the system at once. Left to itself it keeps freed memory for later (blocks of up to 32 MiB, and an
arena for each thread), so the resident process would say what it once held and not what it holds. For oneDNN and torch: no caches of
prepared products, which are the library's and took 45 MiB in bfloat16 whatever the run was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A configuration, planned and measured, in bytes."""

    case: Case
    """Which."""
    planned: Plan
    """What was said."""
    measured: Mapping[str, int]
    """What was taken, by phase."""

    @property
    def peak_error(self) -> float:
        """Of the peaks."""
        return self.planned.peak / max(self.measured.values()) - 1

    def cells(self) -> tuple[str, ...]:
        """Planned / measured MiB of every phase, and the error of the peak."""
        sizes = (f"{self.planned.peak_of(phase, 'host') / 2**20:.0f} / {self.measured[phase] / 2**20:.0f}" for phase in PHASES)
        return (self.case.name, f"{self.planned.parameters / 1e6:.0f} M", *sizes, f"{100 * self.peak_error:+.1f} %")

    def line(self) -> str:
        """The same, while the others are being measured."""
        return "  ".join(f"{cell:>13}" if place else f"{cell:28}" for place, cell in enumerate(self.cells()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if case.is_quick or not options.quick:
                found.append(measure(case, Path(scratch)))
                print(found[-1].line(), flush=True)
    return conclude(table(found), bar(found), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Planned memory against measured memory.")
    made.add_argument("--quick", action="store_true", help="four of the configurations: under five minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def measure(case: Case, scratch: Path) -> Outcome:
    """One configuration, in a process of its own."""
    from heron.config import load_config
    from heron.training.cost import plan_of

    settings = case.settings(written(case.shape, scratch))
    task = {"settings": settings, "prompt_tokens": case.prompt_tokens, "warm": str(written(warm_shape(case.shape.dtype), scratch))}
    command = [sys.executable, "-m", "benchmarks.memory_plan_worker", json.dumps(task)]
    output = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ALLOCATOR, cwd=Path(__file__).parents[1]
    ).stdout
    planned = plan_of(load_config("arithmetic", settings), prompt_tokens=case.prompt_tokens)
    return Outcome(case=case, planned=planned, measured=json.loads(output.splitlines()[-1]))


def written(shape: Shape, scratch: Path) -> Path:
    """A random model of this shape on disk, once."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from heron.models.embedded import build_tokenizer
    from heron.types import Tags

    folder = scratch / "-".join(str(value) for value in asdict(shape).values())
    if not folder.is_dir():
        tokenizer = build_tokenizer(Tags())
        config = Qwen3Config(**shape.config(), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
        Qwen3ForCausalLM(config).to(getattr(torch, shape.dtype)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def table(found: Sequence[Outcome]) -> Table:
    """A row for each configuration."""
    return Table(
        title="Memory above the imported baseline, planned / measured, in MiB",
        columns=("configuration", "weights", *PHASES, "peak"), rows=tuple(one.cells() for one in found),
        notes=(f"Allocator and library caches when measured: {', '.join(f'{name}={value}' for name, value in ALLOCATOR.items())}.",),
    )


def bar(found: Sequence[Outcome]) -> Bar:
    """The worst peak."""
    worst = max((one.peak_error for one in found), key=abs)
    return Bar(name=NAME, met=abs(worst) <= GOAL, figure=f"{100 * worst:+.1f} %", goal=f"{100 * GOAL:.0f} %")


if __name__ == "__main__":
    sys.exit(main())
