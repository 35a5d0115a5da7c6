"""Whole training steps per minute: Heron against TRL's `GRPOTrainer`, same model, data, rewards, batch and threads.

    python -m benchmarks.step_vs_trl [--quick] [--write] [--threads N]

One process; the two take turns (a round of Heron's steps, a round of TRL's, and again), so that whatever else the machine does
falls on both. Start-up and the first step of each are not counted. A step is rollout, rewards, update and record. TRL runs with the
settings that suit a CPU (`same_work.common_settings`) and the faster of its `VARIANTS`, found by a short trial; `--quick` takes the
last one, which won so far. The columns `tokens` say that the work is equal; the bar takes the ratio of steps per minute or, if it
is smaller, the ratio corrected for the tokens.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe_machine, installed
from benchmarks.report import Bar, Table, conclude
from benchmarks.same_work import VARIANTS, trl_batch
from benchmarks.timing import (
    StepTime,
    best_speedup,
    median_seconds,
    speedup,
    steps_per_minute,
    tokens_per_step,
    work_speedup,
)

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

NAME = "step_vs_trl"
GOAL = 3.0
PEERS = ("trl", "vllm", "unsloth")
"""Who could be measured against; only TRL has a trainer that runs on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure."""

    rounds: int
    """Turns of each side."""
    steps: int
    """Steps in a turn."""
    trial: bool
    """Whether to try all variants of TRL first."""


FULL = {"arithmetic": Plan(rounds=6, steps=3, trial=True), "long": Plan(rounds=5, steps=1, trial=True)}
QUICK = {"arithmetic": Plan(rounds=4, steps=2, trial=False), "long": Plan(rounds=2, steps=1, trial=False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both sides on one workload."""

    name: str
    """The workload's."""
    shape: str
    """Its batch in words."""
    ours: tuple[StepTime, ...]
    """Heron's steps."""
    theirs: tuple[StepTime, ...] = ()
    """TRL's steps; empty if TRL is not installed."""
    settings: str = ""
    """The variant that TRL ran with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads or torch.get_num_threads())
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as scratch:
        measured = [measure(workload, plan[workload.name], Path(scratch)) for workload in _workloads(Path(scratch))]
    machine = describe_machine(torch.get_num_threads())
    return conclude(table(measured), bar(measured), machine=machine, write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Whole training steps, Heron against TRL.")
    made.add_argument("--quick", action="store_true", help="fewer rounds: under five minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    made.add_argument("--threads", type=int, default=0, help="threads of both sides; default: what torch takes")
    return made


def measure(workload: Workload, plan: Plan, scratch: Path) -> Measured:
    """Time the steps of both sides, taking turns."""
    total = plan.rounds * plan.steps
    ours = _Heron(workload, scratch / f"{workload.name}-run")
    ours.step()
    if installed("trl") is None:
        return Measured(name=workload.name, shape=workload.shape, ours=tuple(ours.step() for _ in range(total)))
    from benchmarks.trl_side import run_trl

    settings = _fastest_variant(workload, scratch) if plan.trial else list(VARIANTS)[-1]
    our_times: list[StepTime] = []
    their_times: list[StepTime] = []

    def take_turns(step: StepTime) -> None:
        their_times.append(step)  # the first one is a warm-up and is dropped below
        done = len(their_times) - 1
        if done % plan.steps == 0 and done < total:
            our_times.extend(ours.step() for _ in range(plan.steps))

    run_trl(workload, trl_batch(workload, settings), num_steps=1 + total, scratch=scratch / "trl", after_step=take_turns)
    return Measured(
        name=workload.name, shape=workload.shape, ours=tuple(our_times), theirs=tuple(their_times[1:]), settings=settings
    )


def table(measured: Sequence[Measured]) -> Table:
    """A row for each workload."""
    columns = (
        "workload", "batch", "Heron steps/min", "TRL steps/min", "Heron s", "TRL s", "Heron tokens", "TRL tokens",
        "ratio", "best/best",
    )
    return Table(
        title="Whole training steps (median; tokens are sampled completion tokens of a step)", columns=columns,
        rows=tuple(_row(one) for one in measured), notes=(_peers(), *_settings(measured)),
    )


def bar(measured: Sequence[Measured]) -> Bar:
    """Held on the first workload, the default recipe's."""
    first = measured[0]
    if not first.theirs:
        return Bar(name=NAME, met=False, figure="not measured, TRL is not installed", goal=f"{GOAL}x")
    reached = min(speedup(first.ours, first.theirs), work_speedup(first.ours, first.theirs))
    return Bar(name=NAME, met=reached >= GOAL, figure=f"{reached:.1f}x", goal=f"{GOAL}x")


class _Heron:
    """Heron's side of a workload: whole steps, the record on disk included."""

    def __init__(self, workload: Workload, run_dir: Path) -> None:
        from heron.training.assemble import assemble

        self.trainer = assemble(workload.config, run_dir, rewards=list(workload.rewards))

    def step(self) -> StepTime:
        before = self.trainer.state.num_tokens
        began = time.perf_counter()
        self.trainer.step()
        return StepTime(seconds=time.perf_counter() - began, tokens=self.trainer.state.num_tokens - before)


def _workloads(scratch: Path) -> list[Workload]:
    from benchmarks import workloads

    return [workloads.arithmetic(), workloads.long(scratch)]


def _fastest_variant(workload: Workload, scratch: Path) -> str:
    """The variant whose second step is the shortest."""
    from benchmarks.trl_side import run_trl

    seconds: dict[str, float] = {}
    for name in VARIANTS:
        times: list[StepTime] = []
        run_trl(workload, trl_batch(workload, name), num_steps=2, scratch=scratch / "trial", after_step=times.append)
        seconds[name] = times[-1].seconds
    return min(seconds, key=lambda name: seconds[name])


def _row(one: Measured) -> tuple[str, ...]:
    if not one.theirs:
        ours, theirs = (f"{median_seconds(one.ours):.2f}", f"{tokens_per_step(one.ours):.0f}"), "absent"
        return one.name, one.shape, f"{steps_per_minute(one.ours):.1f}", theirs, ours[0], theirs, ours[1], theirs, "-", "-"
    return (
        one.name, one.shape, f"{steps_per_minute(one.ours):.1f}", f"{steps_per_minute(one.theirs):.1f}",
        f"{median_seconds(one.ours):.2f}", f"{median_seconds(one.theirs):.2f}",
        f"{tokens_per_step(one.ours):.0f}", f"{tokens_per_step(one.theirs):.0f}",
        f"{speedup(one.ours, one.theirs):.1f}x", f"{best_speedup(one.ours, one.theirs):.1f}x",
    )


def _peers() -> str:
    found = {peer: installed(peer) for peer in PEERS}
    here = [f"{peer} {version}" for peer, version in found.items() if version]
    absent = [peer for peer, version in found.items() if not version]
    return f"Peers here: {', '.join(here) or 'none'}; absent, not measured: {', '.join(absent) or 'none'}."


def _settings(measured: Sequence[Measured]) -> tuple[str, ...]:
    used = [f"{one.settings} ({one.name})" for one in measured if one.settings]
    if not used:
        return ()
    return (
        "TRL: float32, use_cpu, no gradient checkpointing, no dropout, no logging, no saving, SDPA, one optimizer step a batch; "
        f"of {' and '.join(VARIANTS)}: {', '.join(used)}.",
    )


if __name__ == "__main__":
    raise SystemExit(main())
