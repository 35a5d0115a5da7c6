"""One side of `benchmarks.dashboard`, in a process of its own, so that its memory is its own too.

    python -m benchmarks.dashboard_worker first|fill|asked|record RUN CACHE

The last line of the output is a JSON object: what was done, and how many milliseconds it took, in each round.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from heron.run import Run
from heron.run.index import FILTERS, Index

ROUNDS = 5
FIRST_LOOK_S = 0.5
"""What a page lets the index read before it shows something."""
SCREEN = (
    "reward", "reward_std", "groups/all_right", "groups/mixed", "groups/all_wrong", "rewards/right/mean", "rewards/format/mean",
    "completions/mean_length", "entropy", "kl", "grad_norm", "loss",
)  # fmt: skip
"""Figures that one screen shows: no screen has more."""
WORDS = ("what", "wait carry", "SOLUTION", "sol*", "150", "nobody")
"""In every group, in most, in a few, in none."""

Timings = dict[str, list[float]]


def main(arguments: Sequence[str]) -> None:
    """Do what was asked for, and print what it took."""
    side, run, cache = arguments
    sides = {"first": first, "fill": fill, "asked": asked, "record": record}
    found = sides[side](Run(run), Path(cache))
    print(json.dumps({"timings": found, "peak_mb": memory_mb("VmHWM")}))


def first(run: Run, cache: Path) -> Timings:
    """Open the index as it is there, or is not, and fetch what the first screen shows."""
    return {"first screen": [timed(lambda: screen(Index(run, cache)))]}


def fill(run: Run, cache: Path) -> Timings:
    """Index all, as a page does it: a little at a time."""
    index = Index(run, cache)

    def read() -> None:
        while not index.refresh(FIRST_LOOK_S).is_done:
            pass

    return {"all indexed": [timed(read)]}


def asked(run: Run, cache: Path) -> Timings:
    """Every kind of question that a page asks."""
    index = Index(run, cache)
    return {what: [timed(ask) for _ in range(ROUNDS)] for what, ask in questions(index).items()}


def record(run: Run, cache: Path) -> Timings:
    """The same answers from the run's files."""
    del cache
    return {
        "first screen": [timed(lambda: curves_of(run))],
        "groups": [timed(lambda: truncated_groups(run))],
    }  # fmt: skip


def screen(index: Index) -> None:
    """What the first screen shows."""
    index.refresh(FIRST_LOOK_S)
    curves = index.curves(SCREEN)
    assert all(curve.steps[-1] == index.last_step() for curve in curves.values())
    assert index.first(64) and index.latest(256) and index.names()
    assert index.groups().groups[0].step == index.last_step()
    index.lengths(index.last_step() - 15, index.last_step())


def questions(index: Index) -> dict[str, Callable[[], Any]]:
    """By kind and detail, as `kind: detail`."""
    prompt, last = index.groups().groups[0].prompt, index.last_step()
    asked: dict[str, Callable[[], Any]] = {
        "curves: 12 figures over all steps": lambda: index.curves(SCREEN),
        "curves: what is new": lambda: index.curves(SCREEN, after=last - 1),
        "prompt: over time": lambda: index.groups(prompt=prompt, order="oldest"),
        "prompt: over time, wrong": lambda: index.groups(prompt=prompt, filter="wrong"),
        "prompt: over time, searched": lambda: index.groups(prompt=prompt, search="what"),
        "group: with its texts": lambda: index.group(last // 2, 1),
        "lengths: of all steps": lambda: index.lengths(1, last),
        "lengths: of the newest steps": lambda: index.lengths(last - 100, last),
    }
    for name in FILTERS:
        asked |= {f"filter: {name}, {page}": ask for page, ask in pages(index, filter=name).items()}
        for words in WORDS:
            asked |= {f"search: {words}, {name}, {page}": ask for page, ask in pages(index, filter=name, search=words).items()}
    return asked


def pages(index: Index, **query: str) -> dict[str, Callable[[], Any]]:
    """The first, the middle and the last one."""
    total = index.groups(**query, limit=1).total
    offsets = {"first page": 0, "middle page": total // 2, "last page": max(0, total - 20)}
    return {page: lambda offset=offset: index.groups(**query, offset=offset) for page, offset in offsets.items()}


def curves_of(run: Run) -> None:
    """The figures of a screen, each bucket's extremes, and the newest groups."""
    metrics = run.metrics()
    for name in SCREEN:
        values = [line[name] for line in metrics]
        edges = [len(values) * place // 150 for place in range(151)]
        assert all(min(values[start:end]) <= max(values[start:end]) for start, end in pairwise(edges))
    assert run.rollouts(run.rollout_steps()[-1])


def truncated_groups(run: Run) -> None:
    """One page of them, with their number: every row has to be looked at."""
    cut = {(step, row["group"]) for step in run.rollout_steps() for row in run.rollouts(step) if row["finish_reason"] == "length"}
    assert cut


def timed(ask: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def memory_mb(field: str) -> float:
    """Of this process, by its name in /proc: `VmHWM` is the most that it ever had resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
