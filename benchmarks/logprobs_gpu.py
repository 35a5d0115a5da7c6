"""Log-probs with gradients on a GPU, at the sizes of long reasoning: time, share of the tensor cores' rate, peak memory.

    python -m benchmarks.logprobs_gpu [--quick] [--write]

16 to 160 thousand tokens of the shape of 8 B models (D 4096, bfloat16, frozen head), two vocabularies; Heron with either epilogue,
full logits, Liger and TRL. The rate that the share refers to is measured first, by a large matrix product; the work counted is that of
two products with the head, which is all that must be done. Not yet run on a GPU. There is no bar: without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.logprobs_sides import PACKAGES, Case, Inputs, Side, is_here, side
from benchmarks.machine import installed
from benchmarks.report import RESULTS, Table

NAME = "logprobs_gpu"
TOKENS = (16_384, 40_960, 81_920, 163_840)
VOCABULARIES = (128_256, 151_936)
ROUNDS = 3
FULL_LOGITS = "full logits"
FULL_LOGITS_BYTES = 16
"""Per logit, at its peak: the product, its float32 copy, the softmax, and their gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One side on one shape."""

    seconds: float
    """Of the fastest round."""
    peak: float
    """GiB over what was there before."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0."""
    options = parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 0
    rate = tensor_core_rate()
    cases = [Case(tokens=tokens, vocabulary=words, width=4096) for words in VOCABULARIES for tokens in TOKENS]
    made = table([row for case in (cases[:1] if options.quick else cases) for row in rows(case, rate)], rate)
    print(made.text())
    if options.write:
        write(made)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Log-probs with gradients on a GPU.")
    made.add_argument("--quick", action="store_true", help="the smallest shape alone")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def rows(case: Case, rate: float) -> list[tuple[str, ...]]:
    """A row for each side."""
    return [_row(case, name, run_side, rate) for name, run_side in sides().items()]


def table(found: Sequence[tuple[str, ...]], rate: float) -> Table:
    """All of them."""
    peers = [f"{package} {installed(package) or 'absent'}" for package in PACKAGES.values()]
    return Table(
        title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}: log-probs, forward and backward (least of {ROUNDS} rounds)",
        columns=("side", "tokens", "vocabulary", "seconds", "share of the rate", "extra peak GiB"), rows=tuple(found),
        notes=(f"bfloat16, D 4096, frozen head. Measured rate of a large product: {rate / 1e12:.0f} TFLOP/s.", f"{', '.join(peers)}."),
    )


def sides() -> dict[str, Side]:
    """Who can run here; Heron with each of its epilogues."""
    ours: dict[str, Side] = {"heron": _with_epilogue("triton"), "heron, torch epilogue": _with_epilogue("torch")}
    return ours | {name: side(name) for name in (FULL_LOGITS, *PACKAGES) if is_here(name)}


def tensor_core_rate(size: int = 8192) -> float:
    """FLOP/s of a square bfloat16 product."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / _least_seconds(lambda: torch.mm(left, right))


def measure(case: Case, run_side: Side) -> Run:
    """Time and peak of one side."""
    inputs = Inputs.of(case, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    inputs.run(run_side)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    return Run(seconds=_least_seconds(lambda: inputs.run(run_side)), peak=peak)


def write(made: Table) -> None:
    """Append a dated section."""
    path = RESULTS / f"{NAME}.md"
    opening = path.read_text() if path.is_file() else f"# {NAME}\n\nWritten by `python -m benchmarks.{NAME} --write`.\n"
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.write_text(f"{opening}\n## {today}\n\n{made.title}\n\n{made.markdown()}\n")
    print(f"written to {path}")


def _row(case: Case, name: str, run_side: Side, rate: float) -> tuple[str, ...]:
    shape = (name, str(case.tokens), str(case.vocabulary))
    torch.cuda.empty_cache()
    if name == FULL_LOGITS and case.tokens * case.vocabulary * FULL_LOGITS_BYTES > torch.cuda.mem_get_info()[0]:
        return *shape, "does not fit", "-", f"{case.tokens * case.vocabulary * FULL_LOGITS_BYTES / 2**30:.0f} (computed)"
    found = measure(case, run_side)
    work = 4 * case.tokens * case.vocabulary * case.width
    return *shape, f"{found.seconds:.3f}", f"{work / found.seconds / rate:.0%}", f"{found.peak:.2f}"


def _with_epilogue(name: str) -> Side:
    from heron.kernels.logprobs import selected_logprobs

    def run(inputs: Inputs) -> Tensor:
        return selected_logprobs(inputs.hidden, inputs.head, inputs.targets, epilogue=name)[0]  # type: ignore[arg-type]

    return run


def _least_seconds(work: Callable[[], object]) -> float:
    work()
    least = float("inf")
    for _ in range(ROUNDS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        least = min(least, began.elapsed_time(ended) / 1000)
    return least


if __name__ == "__main__":
    raise SystemExit(main())
