"""Does it learn? The default recipe with several seeds, and a control that has nothing to learn from.

    python -m benchmarks.learning [--quick] [--write] [--threads N]

Every run starts from the same warmed-up model and measures the same held-out problems before and after: greedy accuracy, and pass@1
over samples, both with 95 % intervals. The control trains on rewards shuffled between siblings (`benchmarks.control`) and is evaluated
like the others. The bar: the first seed ends at 90 % or more (greedy), from 40 % or less; every seed ends at 85 % or more; and the
control has not improved, neither greedily nor in pass@1, intervals considered. `--quick` is one seed and its control. The warm-up,
which is cached, is timed apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude

NAME = "learning"
START_AT_MOST, FIRST_AT_LEAST, EVERY_AT_LEAST = 0.40, 0.90, 0.85
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run came to."""

    seed: int
    """Of the run."""
    is_control: bool
    """Whether its training rewards were shuffled."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Of the run, both evaluations included."""
    before: Mapping[str, float]
    """Totals of the evaluation, as in `summary.json`."""
    after: Mapping[str, float]
    """Totals of the evaluation, as in `summary.json`."""

    @property
    def has_improved(self) -> bool:
        """True if the 95 % interval of either measure lies higher after than before."""
        return any(self.after[f"{name}_low"] > self.before[f"{name}_high"] for name in ("accuracy", "pass_at_1"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print, and return the exit code."""
    options = parser().parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads or torch.get_num_threads())
    seeds = SEEDS[:1] if options.quick else SEEDS
    warmup_seconds = _warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = [run(seed, Path(scratch) / f"seed-{seed}") for seed in seeds]
        outcomes.append(run(SEEDS[0], Path(scratch) / "control", is_control=True))
    machine = describe_machine(torch.get_num_threads())
    return conclude(table(outcomes, warmup_seconds), bar(outcomes), machine=machine, write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="The default recipe and its control.")
    made.add_argument("--quick", action="store_true", help="one seed and its control")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    made.add_argument("--threads", type=int, default=0, help="threads; default: what torch takes")
    return made


def run(seed: int, run_dir: Path, *, is_control: bool = False) -> Outcome:
    """Train the default recipe once."""
    from benchmarks.control import shuffle_training_rewards
    from heron.config import load_config
    from heron.training.assemble import assemble

    trainer = assemble(load_config("arithmetic", {"train": {"seed": seed}}), run_dir)
    if is_control:
        shuffle_training_rewards(trainer, seed=seed)
    summary = trainer.train()
    outcome = Outcome(
        seed=seed, is_control=is_control, steps=summary["steps"], seconds=summary["seconds"],
        before=summary["evaluation"]["before"], after=summary["evaluation"]["after"],
    )
    print("  ".join(_row(outcome)), flush=True)
    return outcome


def table(outcomes: Sequence[Outcome], warmup_seconds: float) -> Table:
    """A row for each run."""
    totals = outcomes[0].before
    return Table(
        title=f"Default recipe: held-out accuracy on {totals['problems']:.0f} problems, with 95 % intervals",
        columns=("run", "steps", "seconds", "greedy before", "greedy after", "pass@1 before", "pass@1 after"),
        rows=tuple(_row(outcome) for outcome in outcomes),
        notes=(
            "control: the same, but each group's training rewards are shuffled among its siblings.",
            f"Seconds are of the run with both evaluations. The warm-up of the start took {warmup_seconds:.0f} s (0: it was in the cache).",
        ),
    )


def bar(outcomes: Sequence[Outcome]) -> Bar:
    """Over all runs."""
    trained = [outcome for outcome in outcomes if not outcome.is_control]
    controls = [outcome for outcome in outcomes if outcome.is_control]
    ends = [outcome.after["accuracy"] for outcome in trained]
    start = max(outcome.before["accuracy"] for outcome in trained)
    met = (
        start <= START_AT_MOST and ends[0] >= FIRST_AT_LEAST and min(ends) >= EVERY_AT_LEAST
        and not any(control.has_improved for control in controls)
    )
    figure = f"{start:.1%} to {' / '.join(f'{end:.1%}' for end in ends)}" + "".join(
        f", control {control.before['accuracy']:.1%} to {control.after['accuracy']:.1%}" for control in controls
    )
    goal = f"<= {START_AT_MOST:.0%} to >= {FIRST_AT_LEAST:.0%}, every seed >= {EVERY_AT_LEAST:.0%}, control not above its start"
    return Bar(name=NAME, met=met, figure=figure, goal=goal)


def _warm_up() -> float:
    """Make the start that all runs share; returns the seconds that it took, 0 if it was there."""
    from heron.config import load_config
    from heron.training.warmup import warm_start

    reports: list[int] = []
    began = time.perf_counter()
    warm_start(load_config("arithmetic"), on_progress=lambda done, total: reports.append(done))
    return time.perf_counter() - began if reports else 0.0


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        f"control, seed {outcome.seed}" if outcome.is_control else f"seed {outcome.seed}", str(outcome.steps),
        f"{outcome.seconds:.0f}", _interval(outcome.before, "accuracy"), _interval(outcome.after, "accuracy"),
        _interval(outcome.before, "pass_at_1"), _interval(outcome.after, "pass_at_1"),
    )


def _interval(totals: Mapping[str, float], name: str) -> str:
    if name not in totals:
        return "-"
    return f"{totals[name]:.1%} ({totals[f'{name}_low']:.1%} to {totals[f'{name}_high']:.1%})"


if __name__ == "__main__":
    raise SystemExit(main())
