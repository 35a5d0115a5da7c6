"""The reward curve as a picture: a sparkline for the terminal, and an SVG that needs no plotting package.

The one hard idea: an SVG can carry its own style sheet, so one file reads well on a light and on a dark page, wherever it is
embedded. The same run always gives the same bytes. Left out: interaction, which is the dashboard's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

from heron.errors import RunError
from heron.run.reader import Run, reward_names
from heron.run.records import Record
from heron.run.text import clean, number, one_line, share

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 900, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 104, 52
MOST_POINTS = 300

_STYLE = """
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2733; }
  .card { fill: #ffffff; stroke: #d9dee7; } .grid { stroke: #e8ebf1; } .zero { stroke: #b4bdca; }
  .title { font-size: 19px; font-weight: 650; } .soft { fill: #667085; font-size: 13px; } .tick { fill: #667085; font-size: 12px; }
  .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; } .total { stroke-width: 3; }
  .band { stroke: none; opacity: 0.09; } .s0 { stroke: #2f6bdc; } .s1 { stroke: #0b8f7a; } .s2 { stroke: #c77700; }
  .s3 { stroke: #b5379b; } .s4 { stroke: #7a6a00; } .s5 { stroke: #6d4bd0; } .f0 { fill: #2f6bdc; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6eaf2; } .card { fill: #12161d; stroke: #2b323d; } .grid { stroke: #222935; } .zero { stroke: #465264; }
    .soft, .tick { fill: #97a3b6; } .band { opacity: 0.14; } .s0 { stroke: #79a8ff; } .s1 { stroke: #3fd0b6; } .s2 { stroke: #f2b04c; }
    .s3 { stroke: #ee8ad8; } .s4 { stroke: #d8c75a; } .s5 { stroke: #b39dff; } .f0 { fill: #79a8ff; }
  }"""

Points = list[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """The values as a row of at most `width` blocks, lowest to highest; a gap where a number is missing."""
    thinned = _thin(list(values), width)
    known = [value for value in thinned if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    middle = BLOCKS[len(BLOCKS) // 2 - 1]
    return "".join(
        " " if value is None else middle if span == 0 else BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in thinned
    )


def reward_curve_svg(run: Run) -> str:
    """The run's total reward with its spread, and each reward function's mean, as a self-contained SVG."""
    metrics = [record for record in run.metrics() if record.get("reward") is not None]
    if not metrics:
        raise RunError(f"{run.path} has no recorded step yet, so there is no curve to draw.")
    names = reward_names(metrics)
    totals = _column(metrics, "reward")
    spread = dict(_column(metrics, "reward_std"))
    functions = [_column(metrics, f"rewards/{name}/mean") for name in names] if len(names) > 1 else []
    ticks = _ticks(*_range([totals, *functions]))
    place = _placer(metrics[0]["step"], metrics[-1]["step"], ticks[0], ticks[-1])
    lines = [_polyline(points, place, f"s{1 + index % 5}") for index, points in enumerate(functions)]
    body = [
        *_header(run, metrics, names if functions else []),
        *_axes(metrics[0]["step"], metrics[-1]["step"], ticks, place),
        _band(totals, spread, place, ticks),
        *lines,
        _polyline(totals, place, "s0 total"),
    ]
    return _document(f"Reward over {len(metrics)} steps", body)


def _thin(values: list[float | None], most: int) -> list[float | None]:
    """Means of neighbouring values, so that at most `most` remain."""
    cells = min(len(values), most)
    edges = [index * len(values) // cells for index in range(cells + 1)] if cells else []
    return [_mean(values[start:end]) for start, end in itertools.pairwise(edges)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _column(metrics: Sequence[Record], key: str) -> Points:
    steps = _thin([float(record["step"]) for record in metrics], MOST_POINTS)
    values = _thin([record.get(key) for record in metrics], MOST_POINTS)
    return [(step, value) for step, value in zip(steps, values, strict=True) if step is not None and value is not None]


def _range(lines: Sequence[Points]) -> tuple[float, float]:
    """From the lowest to the highest mean; the band may run out of the picture, since its tails say little."""
    values = [value for points in lines for _, value in points]
    return min(values), max(values)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose low and high, a step of 1, 2 or 5 times a power of ten apart."""
    span = high - low or 1.0
    power = 10 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _placer(first: float, last: float, low: float, high: float) -> Place:
    across, up = (last - first) or 1, high - low

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - first) / across * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (value - low) / up * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    return place


def _header(run: Run, metrics: Sequence[Record], names: Sequence[str]) -> list[str]:
    title = f"Reward over {len(metrics)} steps" if len(metrics) > 1 else "Reward of the first step"
    return [_text(LEFT - 36, 38, title, "title"), _text(LEFT - 36, 60, _subtitle(run), "soft"), *_legend(metrics[-1], names)]


def _subtitle(run: Run) -> str:
    evaluations = run.evaluations()
    parts = [f"recipe {one_line(run.settings.get('recipe', '?'), 40)}", f"seed {run.settings.get('train', {}).get('seed', '?')}"]
    if "before" in evaluations and "after" in evaluations:
        before, after = evaluations["before"], evaluations["after"]
        parts.insert(0, f"held-out accuracy {share(before['accuracy'])} → {share(after['accuracy'])} on {after['problems']} problems")
    return " · ".join(parts)


def _legend(last: Mapping[str, float], names: Sequence[str]) -> list[str]:
    entries = [("s0 total", "total reward", last.get("reward"))]
    entries += [(f"s{1 + index % 5}", one_line(name, 24), last.get(f"rewards/{name}/mean")) for index, name in enumerate(names)]
    parts, x = [], float(LEFT - 36)
    for style, name, value in entries:
        label = f"{name} {number(value)}"
        parts.append(f'<line class="line {style}" x1="{x:.0f}" y1="80" x2="{x + 18:.0f}" y2="80"/>')
        parts.append(_text(x + 25, 84.5, label, "tick"))
        x += 25 + 6.9 * len(label) + 20
    return parts


def _axes(first: int, last: int, ticks: Sequence[float], place: Place) -> list[str]:
    parts = []
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        (left, y), (right, _) = place(first, tick), (WIDTH - RIGHT, 0)
        style = "zero" if abs(tick) < 1e-12 else "grid"
        parts.append(f'<line class="{style}" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(_text(left - 10, y + 4, f"{tick + 0.0:.{digits}f}", "tick", anchor="end"))
    for step in _step_ticks(first, last):
        parts.append(_text(place(step, ticks[0])[0], HEIGHT - BOTTOM + 20, str(step), "tick", anchor="middle"))
    below = "training step (shaded: one standard deviation of the answers' rewards)"
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, below, "tick", anchor="middle"))
    return parts


def _step_ticks(first: int, last: int) -> list[int]:
    if last - first < 2:
        return sorted({first, last})
    step = max(1, round(_ticks(0, last - first, 6)[1]))
    inner = [tick for tick in range(step, last, step) if tick - first > step / 2 and last - tick > step / 2]
    return [first, *inner, last]


def _band(points: Points, spread: Mapping[float, float], place: Place, ticks: Sequence[float]) -> str:
    """The total reward plus and minus its standard deviation, cut off at the picture's edge."""
    edges = [(step, value, spread.get(step, 0.0)) for step, value in points]
    upper = [place(step, min(value + std, ticks[-1])) for step, value, std in edges]
    lower = [place(step, max(value - std, ticks[0])) for step, value, std in reversed(edges)]
    return f'<polygon class="band f0" points="{_pairs([*upper, *lower])}"/>'


def _polyline(points: Points, place: Place, style: str) -> str:
    return f'<polyline class="line {style}" points="{_pairs([place(*point) for point in points])}"/>'


def _pairs(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _text(x: float, y: float, words: str, style: str, *, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(clean(words))}</text>'


def _document(title: str, body: Sequence[str]) -> str:
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}\n</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="14"/>',
        *body,
        "</svg>",
        "",
    ])
