"""Whole training steps by engine: Heron with its own and with transformers' sampling, TRL with `generate` and with continuous batching.

    python -m benchmarks.step_with_engines [--quick] [--write]

The batch is the workload `long` of `benchmarks.workloads`: prompts of 256 tokens, eight siblings, answers of 45 tokens on average. One
thread, one process, the sides taking turns: TRL runs twice, once with each of its ways to sample, and both engines of Heron take a step
after each of TRL's. Heron multiplies by the route that its training runs take. The share of sampling is that of Heron's own clock; TRL
keeps none. The bar is the native engine's tokens a second over the better one of TRL's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.machine import describe_machine, installed
from benchmarks.report import Bar, Table, conclude
from benchmarks.timing import StepTime

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

NAME = "step_with_engines"
GOAL = 6.0
NATIVE = "Heron, native engine"
ENGINES = {NATIVE: "native", "Heron, hf engine": "hf"}
BATCHING = {"num_blocks": 512, "page_size": 32, "max_batch_tokens": 512}
PEERS: dict[str, dict[str, Any]] = {
    "TRL, generate": {},
    "TRL, continuous batching": {"use_transformers_continuous_batching": True, "transformers_continuous_batching_config": BATCHING},
}
"""What each of TRL's ways to sample is told besides."""
TRL_BATCH = "4 micro-batches"
"""The way to cut the batch that is the faster one in `benchmarks.step_vs_trl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Steps of one side."""

    steps: tuple[StepTime, ...]
    """Whole ones."""
    sampling: tuple[float, ...] = ()
    """Seconds of sampling in each; empty where the side keeps no clock."""

    @property
    def seconds(self) -> float:
        """Of the median step."""
        return median(step.seconds for step in self.steps)

    @property
    def rate(self) -> float:
        """Sampled tokens a second, of the median step: fewer tokens are no speed."""
        return median(step.tokens / step.seconds for step in self.steps)

    @property
    def share(self) -> float | None:
        """Of sampling in all steps."""
        return sum(self.sampling) / sum(step.seconds for step in self.steps) if self.sampling else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    import torch

    from benchmarks import workloads

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        timed = measure(workloads.long(Path(scratch)), Path(scratch), rounds=1 if options.quick else 4)
    return conclude(table(timed), bar(timed), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Whole training steps, by engine.")
    made.add_argument("--quick", action="store_true", help="one step of each: under five minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def measure(workload: Workload, scratch: Path, *, rounds: int) -> dict[str, Timed]:
    """Steps of all sides, by name; the first of each is not counted."""
    heron = {name: _Heron(workload, engine, scratch / engine) for name, engine in ENGINES.items()}
    found: dict[str, Timed] = {}
    for side in heron.values():
        side.step()
    for name, settings in PEERS.items() if installed("trl") else ():
        found[name] = Timed(steps=tuple(_trl_steps(workload, settings, list(heron.values()), scratch / "trl", rounds)))
    if not found:
        for side in heron.values():
            side.keep(rounds)
    return {name: side.timed() for name, side in heron.items()} | found


def table(timed: Mapping[str, Timed]) -> Table:
    """A row for each side."""
    ours = timed[NATIVE]
    rows = [
        (name, f"{one.seconds:.2f}", "-" if one.share is None else f"{100 * one.share:.0f} %", f"{one.rate:.0f}",
         f"{ours.rate / one.rate:.1f}x")
        for name, one in timed.items()
    ]
    absent = "" if set(PEERS) & set(timed) else " TRL is absent, not measured."
    return Table(
        title="Whole training steps: 4 prompts of 256 tokens x 8, answers of 45 tokens on average (median, float32)",
        columns=("side", "s a step", "of it sampling", "sampled tokens/s", "Heron's native engine over it"), rows=tuple(rows),
        notes=(f"TRL {installed('trl')}: SDPA, no gradient checkpointing, no logging, {TRL_BATCH}.{absent}",),
    )


def bar(timed: Mapping[str, Timed]) -> Bar:
    """Against the better way of TRL."""
    rates = [one.rate for name, one in timed.items() if name in PEERS]
    if not rates:
        return Bar(name=NAME, met=False, figure="not measured, TRL is not installed", goal=f"{GOAL}x")
    reached = timed[NATIVE].rate / max(rates)
    return Bar(name=NAME, met=reached >= GOAL, figure=f"{reached:.1f}x", goal=f"{GOAL}x")


class _Heron:
    """One engine's side: whole steps, the record on disk included."""

    def __init__(self, workload: Workload, engine: str, run_dir: Path) -> None:
        from heron.training.assemble import assemble

        config = replace(workload.config, rollout=replace(workload.config.rollout, engine=engine))
        self.trainer = assemble(config, run_dir, rewards=list(workload.rewards), listeners=[self._hear])
        self.sampling = 0.0
        self.kept: list[tuple[StepTime, float]] = []

    def step(self) -> tuple[StepTime, float]:
        from heron.kernels.matmul import using

        before, began = self.trainer.state.num_tokens, time.perf_counter()
        with using(self.trainer.route):
            self.trainer.step()
        seconds = time.perf_counter() - began
        return StepTime(seconds=seconds, tokens=self.trainer.state.num_tokens - before), self.sampling

    def keep(self, steps: int = 1) -> None:
        """Take steps that count."""
        self.kept += [self.step() for _ in range(steps)]

    def timed(self) -> Timed:
        return Timed(steps=tuple(step for step, _ in self.kept), sampling=tuple(sampling for _, sampling in self.kept))

    def _hear(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics":
            self.sampling = payload["time/sample"]


def _trl_steps(workload: Workload, settings: Mapping[str, Any], others: Sequence[_Heron], scratch: Path, rounds: int) -> list[StepTime]:
    """TRL's steps but the first; after each but the last the others take one."""
    from benchmarks.same_work import trl_batch
    from benchmarks.trl_side import run_trl

    times: list[StepTime] = []

    def take_turns(step: StepTime) -> None:
        times.append(step)
        if len(times) <= rounds:
            for other in others:
                other.keep()

    run_trl(workload, {**trl_batch(workload, TRL_BATCH), **settings}, num_steps=1 + rounds, scratch=scratch, after_step=take_turns)
    return times[1:]


if __name__ == "__main__":
    raise SystemExit(main())
