"""What recording costs: steps of the default run with record, verdicts and alerts, beside the same steps without.

    python -m benchmarks.recording [--quick] [--write]

Each step is taken twice, on and off by turns, with the same prompts, the same random numbers and weights that do not move, so the two
differ in nothing but what is recorded. On a busy machine two equal steps differ by several per cent all the same. So what recording does
is clocked too: the calls that record, judge and look, what other threads do meanwhile (they bring the lines to the disk), and what the
garbage collector takes more. The bar is for that clocked share, and it is missed as well where the pairs say, with 95 % confidence, that
more is added. The numbers about rewards and lengths are reckoned either way; their time is measured by itself and counted in. The alerts
look at a full window of past steps, as late in a long run.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.config import load_config
from heron.run import Run
from heron.run.alerts.course import PIECES
from heron.training.assemble import assemble
from heron.training.statistics import rollout_metrics
from heron.training.trainer import Trainer
from heron.types import Group

NAME = "recording"
GOAL = 0.01
"""Share of a step's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Seconds of one step."""

    whole: float
    """By the clock."""
    collecting: float
    """Of garbage."""
    beside: float
    """Of processor time in other threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of every step."""

    on: list[Taken]
    """With everything."""
    off: list[Taken]
    """Without record, verdicts and alerts."""
    metrics: list[float]
    """Seconds of the numbers about rewards and lengths."""
    calls: list[float]
    """Seconds inside of the calls that record, judge and look."""

    @property
    def bare(self) -> float:
        """Seconds of a step without all of it."""
        return median(taken.whole for taken in self.off) - median(self.metrics)

    @property
    def by_pairs(self) -> list[float]:
        """What each pair says is added, as a share of the step, in order of size."""
        counted = median(self.metrics)
        return sorted(
            (on.whole - off.whole + counted) / (off.whole - counted) for on, off in zip(self.on, self.off, strict=True)
        )

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % for their median, by ranks."""
        pairs, reach = self.by_pairs, 0.98 * math.sqrt(len(self.on))
        middle = len(pairs) / 2
        return pairs[max(0, math.floor(middle - reach))], pairs[min(len(pairs) - 1, math.ceil(middle + reach))]

    @property
    def aside(self) -> float:
        """Seconds a step that recording costs outside of its calls."""
        return sum(fmean(getattr(taken, what) for taken in self.on) - fmean(getattr(taken, what) for taken in self.off)
                   for what in ("collecting", "beside"))

    @property
    def clocked(self) -> float:
        """All that was clocked, as a share of the step."""
        return (median(self.calls) + median(self.metrics) + max(0.0, self.aside)) / self.bare


class Timed:
    """Whatever it stands for; adds up the seconds of its methods."""

    def __init__(self, thing: Any) -> None:
        self.seconds = 0.0
        self.groups: Sequence[Group] = ()
        """That were recorded last."""
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return self._timed(found) if callable(found) else found

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = method(*given, **named)
            self.seconds += time.perf_counter() - begun
            if method.__name__ == "rollouts":
                self.groups = given[1]
            return result

        return called


class Mute:
    """A record that is not made."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(prepared(Path(folder) / "run"), steps=120 if options.quick else 400)
    return conclude(table(costs), bar(costs), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="What recording adds to a step.")
    made.add_argument("--quick", action="store_true", help="120 pairs of steps instead of 400: about two minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def prepared(run_dir: Path) -> Trainer:
    """A trainer of the default run, whose weights do not move, with a long past."""
    still = {"max_steps": 100_000, "learning_rate": 1e-30, "num_threads": 1}
    config = load_config("arithmetic", {"train": still, "evaluation": {"size": 0}})
    trainer = assemble(config, run_dir)
    trainer.step()
    (record,) = Run(run_dir).metrics()
    for step in range(2, PIECES):
        trainer.run.log(step, {name: value for name, value in record.items() if name != "step"})
    gc.collect()
    gc.freeze()  # a rare look through all that was imported would fall on one side by chance
    return trainer


def measure(trainer: Trainer, *, steps: int) -> Costs:
    """Pairs of equal steps, the order of the two by turns."""
    costs = Costs(on=[], off=[], metrics=[], calls=[])
    writer, run, verdicts = trainer.run, Timed(trainer.run), Timed(trainer.collector.verdicts)
    judging, silent = (replace(trainer.collector, verdicts=judge) for judge in (verdicts, None))
    for number in range(1, steps + 1):
        before = run.seconds + verdicts.seconds
        sides = [(costs.on, run, judging), (costs.off, Mute(), silent)]
        for taken, recorder, collector in sides if number % 2 else reversed(sides):
            trainer.run, trainer.collector = recorder, collector  # type: ignore[assignment]
            taken.append(_step(trainer, number))
        costs.metrics.append(_of_metrics(trainer, run.groups))
        costs.calls.append(run.seconds + verdicts.seconds - before)
    gc.unfreeze()
    writer.close()
    return costs


def _step(trainer: Trainer, number: int) -> Taken:
    """The step after this one."""
    trainer.state.step = number
    begun, busy = time.perf_counter(), time.process_time() - time.thread_time()
    with collecting() as garbage:
        trainer.step()
    return Taken(
        whole=time.perf_counter() - begun, collecting=sum(garbage), beside=time.process_time() - time.thread_time() - busy,
    )


@contextmanager
def collecting() -> Iterator[list[float]]:
    """Seconds of each collection of garbage."""
    seconds: list[float] = []
    begun = 0.0

    def heard(phase: str, _: Mapping[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            seconds.append(time.perf_counter() - begun)

    gc.callbacks.append(heard)
    try:
        yield seconds
    finally:
        gc.callbacks.remove(heard)


def _of_metrics(trainer: Trainer, groups: Sequence[Group]) -> float:
    """Seconds that the numbers of a step's groups take."""
    begun = time.perf_counter()
    rollout_metrics(groups, trainer.weights)
    return time.perf_counter() - begun


def table(costs: Costs) -> Table:
    """What was clocked, and what the pairs say."""
    on, off = (1000 * median(taken.whole for taken in side) for side in (costs.on, costs.off))
    low, high = costs.interval
    quarter, _, three = quantiles(costs.by_pairs, n=4)
    rows = (
        ("a step without record", f"{off:.1f}", ""),
        ("a step with record, verdicts and alerts", f"{on:.1f}", f"{median(costs.by_pairs):.2%} ({low:.2%} to {high:.2%})"),
        ("clocked: calls that record, judge and look", f"{1000 * median(costs.calls):.2f}", f"{median(costs.calls) / costs.bare:.2%}"),
        ("clocked: numbers about rewards and lengths", f"{1000 * median(costs.metrics):.2f}", f"{median(costs.metrics) / costs.bare:.2%}"),
        ("clocked: garbage and other threads", f"{1000 * costs.aside:.2f}", f"{costs.aside / costs.bare:.2%}"),
        ("clocked: all", f"{1000 * costs.clocked * costs.bare:.2f}", f"{costs.clocked:.2%}"),
    )
    return Table(
        title=f"{len(costs.on)} pairs of equal steps of the default run", columns=("what", "ms (median)", "added"), rows=rows,
        notes=(f"Half of the pairs differ by {quarter:.2%} to {three:.2%}; in brackets the 95 % interval of their median.",
               "No peer records a run by itself; there is nothing to compare with but the step without."),
    )


def bar(costs: Costs) -> Bar:
    """The clocked share, unless the pairs are sure of more."""
    added = max(costs.clocked, costs.interval[0])
    return Bar(name=NAME, met=added <= GOAL, figure=f"{added:.2%} of the step", goal=f"{GOAL:.0%}")


if __name__ == "__main__":
    sys.exit(main())
