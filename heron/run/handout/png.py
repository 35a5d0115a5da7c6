"""The reward curve as PNG, for slides and letters that take no SVG. It needs matplotlib, the extra `report`.

The one hard idea: the same curve, colours and words as the SVG, on a white ground, drawn on a figure of its own, so that nothing about
matplotlib is switched for the rest of the process. Names are drawn as they are: a `$` in one is no formula.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from heron.errors import MissingExtra
from heron.run.curve import column, rewarded_steps, span_of, subtitle_of, title_of
from heron.run.drawing import COLOURS, Points, round_ticks
from heron.run.reader import Run, reward_names
from heron.run.text import clean, number, one_line

DOTS_PER_INCH = 160
SOFT, EDGE = "#667085", "#e8ebf1"


def reward_png(run: Run) -> bytes:
    """The run's total reward with its spread, and each reward function's mean, as a file's content."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as absent:
        raise MissingExtra("matplotlib", "report", "The reward curve as PNG") from absent
    metrics = rewarded_steps(run)
    names = reward_names(metrics)
    named = [(name, f"rewards/{name}/mean", COLOURS[1 + index % 5]) for index, name in enumerate(names if len(names) > 1 else [])]
    figure = Figure(figsize=(9, 4.6), facecolor="white", dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.07, 0.12, 0.9, 0.64))
    ticks = round_ticks(*span_of(metrics, ["reward", *(key for _, key, _ in named)]))
    axes.set_ylim(ticks[0], ticks[-1])
    axes.set_yticks(ticks)
    _band(axes, column(metrics, "reward"), dict(column(metrics, "reward_std")))
    for _, key, colour in named:
        _plot(axes, column(metrics, key), colour, 1.4)
    _plot(axes, column(metrics, "reward"), COLOURS[0], 2.6)
    _words(figure, title_of(metrics), subtitle_of(run))
    _legend(figure, metrics[-1], [("total reward", "reward", COLOURS[0]), *named])
    _calm(axes)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": "Heron"})
    return content.getvalue()


def _plot(axes: Any, points: Points, colour: str, width: float) -> None:
    axes.plot([step for step, _ in points], [value for _, value in points], color=colour, linewidth=width, solid_joinstyle="round")


def _band(axes: Any, points: Points, spread: Mapping[float, float]) -> None:
    lower, upper = ([value + sign * spread.get(step, 0.0) for step, value in points] for sign in (-1, 1))
    axes.fill_between([step for step, _ in points], lower, upper, color=COLOURS[0], alpha=0.09, linewidth=0)


def _words(figure: Any, title: str, subtitle: str) -> None:
    figure.text(0.03, 0.93, clean(title), fontsize=13, fontweight="bold", color="#1f2733", parse_math=False)
    figure.text(0.03, 0.875, clean(subtitle), fontsize=9, color=SOFT, parse_math=False)


def _legend(figure: Any, last: Mapping[str, Any], entries: Sequence[tuple[str, str, str]]) -> None:
    x = 0.03
    for name, key, colour in entries:
        words = f"{one_line(name, 24)} {number(last.get(key))}"
        figure.text(x, 0.81, "━", fontsize=10, color=colour)
        figure.text(x + 0.022, 0.812, words, fontsize=8.5, color=SOFT, parse_math=False)
        x += 0.045 + 0.0083 * len(words)


def _calm(axes: Any) -> None:
    axes.grid(axis="y", color=EDGE)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(colors=SOFT, length=0, labelsize=8.5)
    axes.margins(x=0.01)
    axes.set_xlabel("training step (shaded: one standard deviation of the answers' rewards)", fontsize=8.5, color=SOFT)
