"""Sampling: Heron's engine against transformers' `generate`, its continuous batching, and vLLM's CPU build.

    python -m benchmarks.sampling [--quick] [--write] [--vllm-python PATH]

One run, one thread, the same saved models, prompts and end tokens; the sides take turns, and each round has new prompts. The figure is
useful tokens (up to an end token) a second of the processor, of the median round, Heron's over the peer's; the table has seconds by the
clock beside it. vLLM needs an environment of its own: `--vllm-python` is its Python; without it, vLLM's lines say absent. Further lines
hold a decode step against what this machine could do, the memory of the cache, skewed lengths against an ideal schedule, and the draw of
a token from its logits. Every line that has a goal must reach it: the worst one is the bar. `--quick` makes one round, with the smaller
model, and leaves out continuous batching and vLLM in bfloat16.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe_machine, installed
from benchmarks.report import Table, conclude
from benchmarks.sampling_checks import COLUMNS, Check, worst
from benchmarks.sampling_loads import LARGE, PLAIN, SMALL, WIDE, Load, Shape, rollout, save_model

if TYPE_CHECKING:
    from benchmarks.sampling_draw import Row
    from benchmarks.sampling_floor import Floor
    from benchmarks.sampling_sides import Side, Speed

NAME = "sampling"
HF, STATIC, VLLM, BATCHING = "HF generate", "HF with a static cache", "vLLM", "HF continuous batching"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model in one dtype, and what is sampled from it."""

    shape: Shape
    """The model."""
    dtype: str
    """Of weights and activations."""
    goals: Mapping[str, Mapping[str, float]]
    """By load (`rollout`, `plain decode`) and peer; a load without goals is not run."""

    @property
    def loads(self) -> list[Load]:
        """Those with goals."""
        return [load for load in (rollout(self.shape), PLAIN) if load.name in self.goals]


CASES = (
    Case(shape=SMALL, dtype="float32", goals={"rollout": {HF: 7.0, VLLM: 1.5}, "plain decode": {HF: 1.8}}),
    Case(shape=SMALL, dtype="bfloat16", goals={"rollout": {HF: 9.0, VLLM: 1.1}, "plain decode": {HF: 3.0}}),
    Case(shape=WIDE, dtype="float32", goals={"rollout": {HF: 7.0, VLLM: 1.5}}),
    Case(shape=WIDE, dtype="bfloat16", goals={"rollout": {HF: 9.0, VLLM: 1.1}}),
    Case(shape=LARGE, dtype="float32", goals={"rollout": {HF: 2.0}, "plain decode": {HF: 2.0}}),
    Case(shape=LARGE, dtype="bfloat16", goals={"rollout": {HF: 2.0}, "plain decode": {HF: 2.0}}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure."""

    rounds: int
    """Turns of each side; one with the large model, whose rounds take minutes."""
    cases: tuple[Case, ...]
    """Rows of the table."""
    batching: bool
    """Whether transformers' continuous batching runs, with the smaller models."""
    vllm_dtypes: tuple[str, ...]
    """In which dtypes vLLM runs: it takes a minute to start."""

    def rounds_of(self, case: Case) -> int:
        """Turns of each side in one case."""
        return 1 if case.shape is LARGE else self.rounds

    def batches(self, case: Case) -> bool:
        """Whether continuous batching has a side in one case."""
        return self.batching and case.shape is not LARGE


FULL = Plan(rounds=3, cases=CASES, batching=True, vllm_dtypes=("float32", "bfloat16"))
QUICK = Plan(rounds=1, cases=CASES[:2], batching=False, vllm_dtypes=("float32",))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    plan = QUICK if options.quick else FULL
    checks = []
    with tempfile.TemporaryDirectory() as scratch:
        for check in _checks(plan, options.vllm_python, Path(scratch)):
            print("  ".join(check.cells()), flush=True)
            checks.append(check)
    return conclude(table(checks, plan), worst(checks, name=NAME), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Sampling, against transformers and vLLM.")
    made.add_argument("--quick", action="store_true", help="one round, the smaller model: under five minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    made.add_argument("--vllm-python", type=Path, help="Python of an environment with vLLM's CPU build; without it vLLM is absent")
    return made


def table(checks: Sequence[Check], plan: Plan) -> Table:
    """A row for each check."""
    left_out = " Left out by --quick: 100 M weights, continuous batching, vLLM in bfloat16." if plan is QUICK else ""
    return Table(
        title=f"Sampling (useful tokens a second of one thread's processor time, median of {plan.rounds} rounds, one with 100 M)",
        columns=COLUMNS, rows=tuple(check.cells() for check in checks),
        notes=(
            "Rollout: 8 prompts of 256 tokens x 8 answers, geometric with a mean of 44, 192 at most. Plain decode: 64 prompts of 32 "
            "tokens, 128 new ones each. The peers give tokens only; Heron gives log-probs and entropies with them.",
            f"transformers {installed('transformers')}: SDPA; the goals are set against `generate` with its default cache. Continuous "
            "batching: 512 pages of 32 tokens, 512 tokens a batch. vLLM: eager, prefix caching on, siblings as one request." + left_out,
        ),
    )


def _checks(plan: Plan, vllm_python: Path | None, scratch: Path) -> Iterator[Check]:
    from benchmarks import sampling_draw, sampling_memory, sampling_skew
    from benchmarks.sampling_floor import read_bandwidth

    bandwidth = read_bandwidth()
    for shape in dict.fromkeys(case.shape for case in plan.cases):
        save_model(scratch / shape.name, shape)
    for case in plan.cases:
        yield from _case(case, plan, bandwidth, scratch, vllm_python if case.dtype in plan.vllm_dtypes else None)
    for dtype in sampling_memory.SIZES:
        yield from sampling_memory.measure(scratch / SMALL.name, dtype)
    yield sampling_skew.measure(scratch / "counting", rounds=plan.rounds)
    yield from map(drawn, sampling_draw.measure(quick=plan is QUICK))


def _case(case: Case, plan: Plan, bandwidth: float, scratch: Path, vllm_python: Path | None) -> Iterator[Check]:
    from benchmarks import sampling_floor, sampling_sides

    folder = scratch / case.shape.name
    ours = sampling_sides.Heron(folder, case.dtype)
    with sampling_sides.vllm(vllm_python, folder, case.dtype, scratch) as vllm:
        sides: dict[str, Side] = {sampling_sides.HERON: ours, **sampling_sides.transformers_sides(folder, case.dtype), **vllm}
        if plan.batches(case):
            sides[BATCHING] = sampling_sides.ContinuousBatching(folder, case.dtype)
        for load in case.loads:
            speeds = sampling_sides.take_turns(sides, load, case.shape.vocabulary, rounds=plan.rounds_of(case))
            asked_of_vllm = case.dtype in plan.vllm_dtypes
            yield from compare(case, load, speeds, peers=(HF, STATIC, *[VLLM] * asked_of_vllm, *[BATCHING] * plan.batches(case)))
            if load is PLAIN:
                first = ours.sample(replace(load, max_tokens=1), load.draw(case.shape.vocabulary, seed=0), seed=0).cpu
                lowest = sampling_floor.floor(ours.policy, load, bandwidth)
                yield step(case, load, speeds[sampling_sides.HERON], first, lowest, ours.way)


def compare(case: Case, load: Load, speeds: Mapping[str, Speed], *, peers: Sequence[str]) -> Iterator[Check]:
    """A check for each peer, or that it is absent."""
    ours = speeds["Heron"]
    for peer in peers:
        theirs = speeds.get(peer)
        yield Check(
            what=f"{load.name}, {case.shape.name}, {case.dtype}: over {peer}", figure=math.nan if theirs is None else ours.cpu / theirs.cpu,
            goal=case.goals[load.name].get(peer), behind=f"Heron {ours}, {f'no {peer} here' if theirs is None else f'{peer} {theirs}'}",
        )


def step(case: Case, load: Load, speed: Speed, first: float, floor: Floor, how: str) -> Check:
    """A decode step of Heron over the machine's floor. `first` is what prompts and first tokens take, `how` the way it went."""
    seconds = (speed.tokens / speed.cpu - first) / (load.max_tokens - 1)
    return Check(
        what=f"a decode step of {load.answers} rows, {case.shape.name}, {case.dtype}: over the machine's floor",
        figure=seconds / floor.seconds, behind=f"{1000 * seconds:.2f} ms ({how}), {floor}",
    )


def drawn(row: Row) -> Check:
    """A line of `benchmarks.sampling_draw`, in this table's form."""
    return Check(
        what=f"draw of 64 rows: over {row.what}", figure=row.ratio, goal=row.goal or None,
        behind=f"{1000 * row.ours:.2f} ms, the peer {1000 * row.theirs:.1f} ms",
    )


if __name__ == "__main__":
    raise SystemExit(main())
