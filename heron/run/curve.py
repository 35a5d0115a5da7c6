"""A run as curves: a sparkline for the terminal, the rewards and the right answers as SVG, which needs no plotting package.

The one hard idea: a long run has more steps than a picture has dots, so neighbouring steps are averaged, and the same run always gives
the same picture. How it is drawn is left to `drawing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from heron.errors import RunError
from heron.run.averages import finite, is_finite, mean
from heron.run.drawing import Entry, Frame, Points, axes, band, document, heading, interval, line, round_ticks
from heron.run.reader import Run, reward_names
from heron.run.records import Record
from heron.run.text import number, one_line, share

BLOCKS = "▁▂▃▄▅▆▇█"
MOST_POINTS = 300
MOST_DRAWN = 1e100
"""Absurd numbers are drawn here, at the edge of a picture that shows nothing else any more."""


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """The values as a row of at most `width` blocks, lowest to highest; a gap where a number is missing."""
    thinned = _thin([_drawable(value) for value in values], width)
    known = [value for value in thinned if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    middle = BLOCKS[len(BLOCKS) // 2 - 1]
    return "".join(
        " " if value is None else middle if span == 0 else BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in thinned
    )


def reward_curve_svg(run: Run, *, alone: bool = True) -> str:
    """The run's total reward with its spread, and each reward function's mean: a self-contained SVG, or a part of a page."""
    metrics = rewarded_steps(run)
    names = reward_names(metrics)
    keys = [f"rewards/{name}/mean" for name in names] if len(names) > 1 else []
    totals, functions = column(metrics, "reward"), [column(metrics, key) for key in keys]
    frame = Frame(first=metrics[0]["step"], last=metrics[-1]["step"], ticks=round_ticks(*span_of(metrics, ["reward", *keys])))
    body = [
        *heading(title_of(metrics), subtitle_of(run), _reward_legend(metrics[-1], names if functions else [])),
        *axes(frame, "training step (shaded: one standard deviation of the answers' rewards)"),
        band(totals, dict(column(metrics, "reward_std")), frame, "f0"),
        *(line(points, frame.place, f"s{1 + index % 5}") for index, points in enumerate(functions)),
        line(totals, frame.place, "s0 total"),
    ]
    return document(title_of(metrics), body, alone=alone)


def right_answers_svg(run: Run, *, alone: bool = True) -> str | None:
    """The share of right answers while training, and on held-out problems with its intervals; None where neither was measured."""
    metrics, evaluations = run.metrics(), run.evaluations()
    training = column(metrics, "pass@1")
    measured = [totals for totals in evaluations.values() if "accuracy" in totals and totals.get("step") is not None]
    if not metrics or not (training or measured):
        return None
    frame = Frame(first=0, last=metrics[-1]["step"], ticks=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    legend = [Entry(style="s1", words="training problems, as sampled")] if training else []
    legend += [Entry(style="s0", words="held-out problems, with 95 % intervals")] if measured else []
    body = [
        *heading("Right answers", "share of the problems; held-out ones are never trained on", legend),
        *axes(frame, "training step", unit=lambda tick: f"{tick:.0%}"),
        line(training, frame.place, "s1"),
        *(_measured(totals, frame) for totals in measured),
    ]
    return document("Right answers while training and on held-out problems", body, alone=alone)


def rewarded_steps(run: Run) -> list[Record]:
    """The steps that have a reward; RunError if there are none."""
    metrics = [record for record in run.metrics() if is_finite(record.get("reward"))]
    if not metrics:
        raise RunError(f"{run.path} has no recorded step yet, so there is no curve to draw.")
    return metrics


def column(metrics: Sequence[Record], key: str) -> Points:
    """Steps and values of one number, neighbours averaged where there are many."""
    steps = _thin([float(record["step"]) for record in metrics], MOST_POINTS)
    values = _thin([_drawable(record.get(key)) for record in metrics], MOST_POINTS)
    return [(step, value) for step, value in zip(steps, values, strict=True) if step is not None and value is not None]


def span_of(metrics: Sequence[Record], keys: Sequence[str]) -> tuple[float, float]:
    """From the lowest to the highest mean, with one standard deviation around the reward."""
    spread = dict(column(metrics, "reward_std"))
    band = [value + sign * spread.get(step, 0.0) for step, value in column(metrics, "reward") for sign in (-1, 1)]
    values = band + [value for key in keys for _, value in column(metrics, key)]
    return min(values), max(values)


def title_of(metrics: Sequence[Record]) -> str:
    """`Reward over 100 steps`."""
    return f"Reward over {len(metrics)} steps" if len(metrics) > 1 else "Reward of the first step"


def subtitle_of(run: Run) -> str:
    """Held-out accuracy before and after, recipe, seed."""
    evaluations = run.evaluations()
    settings = run.known_settings
    parts = [f"recipe {one_line(settings.get('recipe', '?'), 40)}", f"seed {settings.get('train', {}).get('seed', '?')}"]
    before, after = evaluations.get("before", {}), evaluations.get("after", {})
    if "accuracy" in before and "accuracy" in after:
        parts.insert(0, f"held-out accuracy {share(before['accuracy'])} → {share(after['accuracy'])} on {after['problems']} problems")
    return " · ".join(parts)


def _reward_legend(last: Mapping[str, float], names: Sequence[str]) -> list[Entry]:
    entries = [("s0 total", "total reward", last.get("reward"))]
    entries += [(f"s{1 + index % 5}", one_line(name, 24), last.get(f"rewards/{name}/mean")) for index, name in enumerate(names)]
    return [Entry(style=style, words=f"{name} {number(value)}") for style, name, value in entries]


def _measured(totals: Mapping[str, Any], frame: Frame) -> str:
    value, step = totals["accuracy"], min(totals["step"], frame.last)
    return interval(step, value, totals.get("accuracy_low", value), totals.get("accuracy_high", value), frame.place, 0)


def _thin(values: list[float | None], most: int) -> list[float | None]:
    """Means of neighbouring values, so that at most `most` remain."""
    cells = min(len(values), most)
    edges = [index * len(values) // cells for index in range(cells + 1)] if cells else []
    return [_mean(values[start:end]) for start, end in itertools.pairwise(edges)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = finite(values)
    return mean(known) if known else None


def _drawable(value: Any) -> float | None:
    """A number within what a picture's scale can be reckoned with; None for what is no finite number."""
    return max(-MOST_DRAWN, min(MOST_DRAWN, float(value))) if is_finite(value) else None
