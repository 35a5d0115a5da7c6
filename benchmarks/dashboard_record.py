"""What the page's questions cost without the page: the record read for each of them, in a process of its own.

    python -m benchmarks.dashboard_record RUN

The last line of the output is a JSON object: what was done, and how many milliseconds it took; and the most memory that it took.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.dashboard_server import SCREEN, peak_mb, timed
from heron.run import Run


def main(arguments: Sequence[str]) -> None:
    """Read, and print what it took."""
    run = Run(arguments[0])
    timings = {"curves": [timed(lambda: curves_of(run))], "groups": [timed(lambda: truncated_groups(run))]}
    print(json.dumps({"timings": timings, "peak_mb": peak_mb(os.getpid())}))


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


if __name__ == "__main__":
    main(sys.argv[1:])
