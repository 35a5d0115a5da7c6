"""What recording costs: steps of the default run with record, verdicts and alerts, beside the same steps without.

    python -m benchmarks.recording [--quick] [--write]

Each step is taken twice, on and off by turns, with the same prompts, the same random numbers and weights that do not move, so the two
differ in nothing but what is recorded. A busy machine blurs that difference, so the time inside of the calls is measured too, and the bar
is for the larger of both. The numbers about rewards and lengths are reckoned either way; their time is measured by itself and added. The
alerts look at a full window of past steps, as late in a long run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.config import load_config
from heron.run import Run
from heron.run.alerts.history import HEAD, TAIL
from heron.training.assemble import assemble
from heron.training.statistics import rollout_metrics
from heron.training.trainer import Trainer
from heron.types import Group

NAME = "recording"
GOAL = 0.01
"""Share of a step's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds of each step."""

    on: list[float]
    """With everything."""
    off: list[float]
    """Without record, verdicts and alerts."""
    metrics: list[float]
    """Of the numbers about rewards and lengths."""
    inside: list[float]
    """Of the calls that record, judge and look, and of those numbers."""

    @property
    def added(self) -> list[float]:
        """By recording, as a share of the step without it."""
        counted = median(self.metrics)
        return [(on - off + counted) / (off - counted) for on, off in zip(self.on, self.off, strict=True)]

    @property
    def share_inside(self) -> float:
        """The time inside of the calls, as a share of the step without them."""
        return median(self.inside) / (median(self.off) - median(self.metrics))


class Timed:
    """Whatever it stands for; adds up the seconds of its methods."""

    def __init__(self, thing: Any) -> None:
        self.seconds = 0.0
        self.last: Any = None
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return self._timed(found) if callable(found) else found

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            self.last = method(*given, **named)
            self.seconds += time.perf_counter() - begun
            return self.last

        return called


class Mute:
    """A record, and verdicts, that are not made."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def marked(self, groups: Sequence[Group]) -> Sequence[Group]:
        """As they are."""
        return groups


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(prepared(Path(folder) / "run"), steps=60 if options.quick else 300)
    return conclude(table(costs), bar(costs), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="What recording adds to a step.")
    made.add_argument("--quick", action="store_true", help="60 pairs of steps instead of 300: about two minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def prepared(run_dir: Path) -> Trainer:
    """A trainer of the default run, whose weights do not move, with a long past."""
    still = {"max_steps": 100_000, "learning_rate": 1e-30, "num_threads": 1}
    config = load_config("arithmetic", {"train": still, "evaluation": {"size": 0}})
    trainer = assemble(config, run_dir)
    trainer.step()
    (record,) = Run(run_dir).metrics()
    for step in range(2, HEAD + TAIL + 2):
        trainer.run.log(step, {name: value for name, value in record.items() if name != "step"})
    return trainer


def measure(trainer: Trainer, *, steps: int) -> Costs:
    """Pairs of equal steps, the order of the two by turns."""
    costs = Costs(on=[], off=[], metrics=[], inside=[])
    writer, run, verdicts, mute = trainer.run, Timed(trainer.run), Timed(trainer.verdicts), Mute()
    for number in range(1, steps + 1):
        before = run.seconds + verdicts.seconds
        sides = [(costs.on, run, verdicts), (costs.off, mute, mute)]
        for seconds, recorder, judge in sides if number % 2 else reversed(sides):
            trainer.run, trainer.verdicts = recorder, judge  # type: ignore[assignment]
            seconds.append(_step(trainer, number))
        costs.metrics.append(_of_metrics(trainer, verdicts.last))
        costs.inside.append(run.seconds + verdicts.seconds - before + costs.metrics[-1])
    writer.close()
    return costs


def _step(trainer: Trainer, number: int) -> float:
    """Seconds of the step after this one."""
    trainer.state.step = number
    begun = time.perf_counter()
    trainer.step()
    return time.perf_counter() - begun


def _of_metrics(trainer: Trainer, groups: Sequence[Group]) -> float:
    """Seconds that the numbers of a step's groups take."""
    begun = time.perf_counter()
    rollout_metrics(groups, trainer.weights)
    return time.perf_counter() - begun


def table(costs: Costs) -> Table:
    """One row a side."""
    low, _, high = quantiles(costs.added, n=4)
    rows = (
        ("without record", f"{1000 * median(costs.off):.1f}", ""),
        ("with record, verdicts and alerts", f"{1000 * median(costs.on):.1f}", f"{100 * median(costs.added):.2f} %"),
        ("time inside of the calls", f"{1000 * median(costs.inside):.2f}", f"{100 * costs.share_inside:.2f} %"),
        ("of that, numbers about rewards and lengths", f"{1000 * median(costs.metrics):.2f}", ""),
    )
    return Table(
        title=f"{len(costs.on)} pairs of equal steps of the default run", columns=("what", "ms a step (median)", "added"), rows=rows,
        notes=(f"Half of the pairs differ by {100 * low:.2f} % to {100 * high:.2f} %.",
               "No peer records a run by itself; there is nothing to compare with but the step without."),
    )


def bar(costs: Costs) -> Bar:
    """The share that is added: the larger of both measurements."""
    added = max(median(costs.added), costs.share_inside)
    return Bar(name=NAME, met=added <= GOAL, figure=f"{100 * added:.2f} % of the step", goal=f"{100 * GOAL:.0f} %")


if __name__ == "__main__":
    sys.exit(main())
