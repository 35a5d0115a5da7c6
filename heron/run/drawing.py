"""Line charts as SVG, from a few shapes: axes, a line, a band, a point with its interval.

The one hard idea: an SVG can carry its own style sheet, so one file reads well on a light and on a dark page, wherever it is embedded. Its
rules begin with `.heron-chart`, so that a page which holds several charts may carry them once, and they touch nothing else there. The
same figures always give the same bytes.

Left out: what is drawn, which is for `curve` to choose, and interaction, which is the dashboard's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from heron.run.text import clean, number

WIDTH, HEIGHT = 900, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 104, 52
EDGE = LEFT - 36
"""Where the words above a chart begin."""

STYLE = """
  .heron-chart text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2733; }
  .heron-chart .card { fill: #ffffff; stroke: #d9dee7; } .heron-chart .grid { stroke: #e8ebf1; } .heron-chart .zero { stroke: #b4bdca; }
  .heron-chart .title { font-size: 19px; font-weight: 650; } .heron-chart .soft { fill: #667085; font-size: 13px; }
  .heron-chart .tick { fill: #667085; font-size: 12px; }
  .heron-chart .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
  .heron-chart .line.total { stroke-width: 3; } .heron-chart .band { stroke: none; opacity: 0.09; }
  .heron-chart .s0 { stroke: #2f6bdc; } .heron-chart .s1 { stroke: #0b8f7a; } .heron-chart .s2 { stroke: #c77700; }
  .heron-chart .s3 { stroke: #b5379b; } .heron-chart .s4 { stroke: #7a6a00; } .heron-chart .s5 { stroke: #6d4bd0; }
  .heron-chart .f0 { fill: #2f6bdc; } .heron-chart .f1 { fill: #0b8f7a; } .heron-chart .point { stroke: #ffffff; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    .heron-chart text { fill: #e6eaf2; } .heron-chart .card { fill: #12161d; stroke: #2b323d; } .heron-chart .grid { stroke: #222935; }
    .heron-chart .zero { stroke: #465264; } .heron-chart .soft, .heron-chart .tick { fill: #97a3b6; }
    .heron-chart .band { opacity: 0.14; } .heron-chart .s0 { stroke: #79a8ff; } .heron-chart .s1 { stroke: #3fd0b6; }
    .heron-chart .s2 { stroke: #f2b04c; } .heron-chart .s3 { stroke: #ee8ad8; } .heron-chart .s4 { stroke: #d8c75a; }
    .heron-chart .s5 { stroke: #b39dff; } .heron-chart .f0 { fill: #79a8ff; } .heron-chart .f1 { fill: #3fd0b6; }
    .heron-chart .point { stroke: #12161d; }
  }"""
COLOURS = ("#2f6bdc", "#0b8f7a", "#c77700", "#b5379b", "#7a6a00", "#6d4bd0")
"""The same by light, `s0` to `s5`, for a picture that has no style sheet."""

Points = list[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a legend."""

    style: str
    """Its line's classes, such as `s0 total`."""
    words: str
    """What is written beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The ground of a chart: from which step to which, and from which value to which."""

    first: int
    """Step at the left edge."""
    last: int
    """Step at the right edge."""
    ticks: Sequence[float]
    """Values with a line across, the lowest at the bottom and the highest at the top."""

    def place(self, step: float, value: float) -> tuple[float, float]:
        """Where a value of a step is drawn."""
        across, up = (self.last - self.first) or 1, self.ticks[-1] - self.ticks[0]
        x = LEFT + (step - self.first) / across * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (value - self.ticks[0]) / up * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)


def document(title: str, body: Sequence[str], *, alone: bool = True) -> str:
    """The whole picture: a file that stands alone, or a part of a page that carries `STYLE` itself."""
    size = f' xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"' if alone else ""
    return "\n".join([
        f'<svg class="heron-chart"{size} viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(clean(title))}</title>",
        *([f"<style>{STYLE}\n</style>"] if alone else []),
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="14"/>',
        *body,
        "</svg>",
        "",
    ])


def heading(title: str, subtitle: str, legend: Sequence[Entry]) -> list[str]:
    """What stands above the chart."""
    parts, x = [text(EDGE, 38, title, "title"), text(EDGE, 60, subtitle, "soft")], float(EDGE)
    for entry in legend:
        parts.append(f'<line class="line {entry.style}" x1="{x:.0f}" y1="80" x2="{x + 18:.0f}" y2="80"/>')
        parts.append(text(x + 25, 84.5, entry.words, "tick"))
        x += 25 + 6.9 * len(entry.words) + 20
    return parts


def axes(frame: Frame, below: str, *, unit: Callable[[float], str] | None = None) -> list[str]:
    """A line across for each tick with its value, a number for some steps, and what the steps are."""
    parts = []
    digits = max(0, -math.floor(math.log10(frame.ticks[1] - frame.ticks[0]) + 1e-9))
    for tick in frame.ticks:
        left, y = frame.place(frame.first, tick)
        style = "zero" if abs(tick) < 1e-12 else "grid"
        parts.append(f'<line class="{style}" x1="{left}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
        parts.append(text(left - 10, y + 4, unit(tick) if unit else number(tick + 0.0, digits), "tick", anchor="end"))
    for step in _step_ticks(frame.first, frame.last):
        parts.append(text(frame.place(step, frame.ticks[0])[0], HEIGHT - BOTTOM + 20, str(step), "tick", anchor="middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, below, "tick", anchor="middle"))
    return parts


def round_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose low and high, a step of 1, 2 or 5 times a power of ten apart."""
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def line(points: Points, place: Place, style: str) -> str:
    """A curve."""
    return f'<polyline class="line {style}" points="{_pairs([place(*point) for point in points])}"/>'


def band(points: Points, spread: Mapping[float, float], frame: Frame, style: str) -> str:
    """The curve plus and minus a spread, which lies between the ticks."""
    edges = [(step, value, spread.get(step, 0.0)) for step, value in points]
    upper = [frame.place(step, value + std) for step, value, std in edges]
    lower = [frame.place(step, value - std) for step, value, std in reversed(edges)]
    return f'<polygon class="band {style}" points="{_pairs([*upper, *lower])}"/>'


def interval(step: float, value: float, low: float, high: float, place: Place, colour: int) -> str:
    """A point with a bar from the lower to the upper end of its interval."""
    (x, y), (_, bottom), (_, top) = place(step, value), place(step, low), place(step, high)
    bar = f'<line class="line s{colour}" x1="{x:g}" y1="{bottom:g}" x2="{x:g}" y2="{top:g}"/>'
    return f'{bar}<circle class="point f{colour}" cx="{x:g}" cy="{y:g}" r="6"/>'


def text(x: float, y: float, words: str, style: str, *, anchor: str = "start") -> str:
    """Words, whatever they hold."""
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(clean(words))}</text>'


def _step_ticks(first: int, last: int) -> list[int]:
    if last - first < 2:
        return sorted({first, last})
    step = max(1, round(round_ticks(0, last - first, 6)[1]))
    inner = [tick for tick in range(step, last, step) if tick - first > step / 2 and last - tick > step / 2]
    return [first, *inner, last]


def _pairs(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
