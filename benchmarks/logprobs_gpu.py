"""Log-probs with gradients on a GPU: Heron's kernel against full logits, TRL's fused head and Liger's.

    python -m benchmarks.logprobs_gpu [--quick] [--write]

The one hard idea: the rate is not held against a data sheet but against what one large bfloat16 product of the library reaches on the
same GPU a moment before. Work is counted as the two products that a frozen head needs, so a side that computes a third one shows a lower
share, as it should. A side that does not fit into memory says so. The bar is held on the largest shape. Without a GPU nothing is measured,
there is no bar, and the exit code is 0: not yet run on a GPU. Left out: trained heads, several GPUs.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.logprobs_sides import PACKAGES, Case, Inputs, is_here, side
from benchmarks.machine import describe_machine, installed
from benchmarks.report import Bar, Table, conclude

NAME = "logprobs_gpu"
SIDES = ("heron", "heron with entropy", "full logits", "liger", "trl")
WIDTH = 4096
"""That of an 8 B model."""
ROUNDS = 5
TOKENS, VOCABULARIES = (163_840, 65_536, 16_384), (128_256, 151_936)
"""The first of each is the bar's."""
SECONDS, GIGABYTES = 0.65, 0.54
"""Goals on one H200: time, and peak memory beside the gradient `[N, D]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One side on one case; None where it does not fit."""

    case: Case
    """The shape."""
    side: str
    """Who."""
    seconds: float | None
    """Of forward and backward, the least of several rounds."""
    gigabytes: float | None
    """Peak over what was allocated before the call."""

    def cells(self, peak_rate: float) -> tuple[str, ...]:
        """Of its row; `peak_rate` in FLOP/s."""
        opening = (self.side, f"{self.case.tokens}", f"{self.case.vocabulary}")
        if self.seconds is None or self.gigabytes is None:
            return (*opening, "does not fit", "", "")
        share = useful_work(self.case) / self.seconds / peak_rate
        return (*opening, f"{1000 * self.seconds:.0f}", f"{100 * share:.0f} %", f"{self.gigabytes:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 also where there is no GPU."""
    options = parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU here: nothing is measured")
        return 0
    peak_rate = product_rate()
    tokens, vocabularies = (TOKENS[:1], VOCABULARIES[:1]) if options.quick else (TOKENS, VOCABULARIES)
    cases = [Case(tokens=number, vocabulary=words, width=WIDTH) for words in vocabularies for number in tokens]
    measured = [measure(case, name) for case in cases for name in SIDES if is_here(name)]
    machine = f"{torch.cuda.get_device_name()}, {describe_machine(torch.get_num_threads())}"
    return conclude(table(measured, peak_rate), bar(measured[0]), machine=machine, write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Log-probs with gradients on a GPU.")
    made.add_argument("--quick", action="store_true", help="the bar's shape alone")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def useful_work(case: Case) -> float:
    """FLOPs of the two products that a frozen head needs."""
    return 4.0 * case.tokens * case.vocabulary * case.width


def measure(case: Case, name: str) -> Measured:
    """Time and peak of one side, after a round that warms up."""
    try:
        inputs = Inputs.of(case, device="cuda")
        seconds = min(elapsed(lambda: inputs.run(side(name))) for _ in range(1 + ROUNDS))
        gigabytes = _extra_gigabytes(lambda: inputs.run(side(name)), inputs)
    except torch.OutOfMemoryError:
        return Measured(case=case, side=name, seconds=None, gigabytes=None)
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return Measured(case=case, side=name, seconds=seconds, gigabytes=gigabytes)


def product_rate(size: int = 8192) -> float:
    """FLOP/s of one large bfloat16 product."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / min(elapsed(lambda: left @ right) for _ in range(20))


def elapsed(call: Callable[[], object]) -> float:
    """Seconds by the GPU's own clock."""
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    call()
    ended.record()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended)) / 1000


def table(measured: Sequence[Measured], peak_rate: float) -> Table:
    """A row for each side and shape."""
    absent = [package for name, package in PACKAGES.items() if not is_here(name)]
    here = [f"{package} {installed(package)}" for name, package in PACKAGES.items() if is_here(name)]
    return Table(
        title=f"Log-probs, forward and backward, bfloat16, D {WIDTH}, frozen head", rows=tuple(one.cells(peak_rate) for one in measured),
        columns=("side", "N", "V", "ms", "share of a large product's rate", "extra peak, GB"),
        notes=(f"A large bfloat16 product: {peak_rate / 1e12:.0f} TFLOP/s.",
               f"Peers here: {', '.join(here) or 'none'}; absent, not measured: {', '.join(absent) or 'none'}."),
    )


def bar(largest: Measured) -> Bar:
    """Heron's time and memory on the largest shape."""
    goal = f"{SECONDS} s and {GIGABYTES} GB beside the gradient, on one H200"
    if largest.seconds is None or largest.gigabytes is None:
        return Bar(name=NAME, met=False, figure="does not fit", goal=goal)
    beside = largest.gigabytes - 2e-9 * largest.case.tokens * largest.case.width
    met = largest.seconds <= SECONDS and beside <= GIGABYTES
    return Bar(name=NAME, met=met, figure=f"{largest.seconds:.2f} s and {beside:.2f} GB", goal=goal)


def _extra_gigabytes(call: Callable[[], object], inputs: Inputs) -> float:
    inputs.hidden.grad = inputs.head.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


if __name__ == "__main__":
    raise SystemExit(main())
