// What plotly is told of a chart: its lines and bands, its points with their intervals, its axes.
// Where a spike would press all else flat (see reach.js), the axis ends below it, and a triangle stands at the edge in its stead.

import { calm, span } from "./reach.js";

export function traces(chart, colour) {
  const bands = chart.stacked ? [] : chart.data.flatMap((one) => band(one, colour));
  const lines = chart.data.map((one) => (chart.stacked ? layer(one, colour) : line(one, colour)));
  const points = chart.marks.map((mark) => measured(mark, colour(mark.tone), colour("card")));
  const cut = chart.beyond && !chart.whole ? chart.data.map((one) => outside(one, chart.beyond, colour(one.line.tone))) : [];
  return [...bands, ...lines, ...points, ...cut.filter(({ x }) => x.length)];
}

export function layout(chart, colour, style) {
  const font = getComputedStyle(document.body).fontFamily;
  const tick = { color: colour("soft"), size: 11.5, family: font };
  const axis = { zeroline: false, tickfont: tick, showline: false, ticks: "", automargin: false, exponentformat: "e", minexponent: 2 };
  return {
    height: chart.height,
    margin: { l: 46, r: 10, t: 6, b: 24 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "x",
    hoverdistance: -1,
    spikedistance: -1,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    uirevision: "kept",
    separators: ". ",
    xaxis: { ...axis, ...along(chart, colour) },
    yaxis: { ...axis, ...upright(chart, colour) },
  };
}

// Where spikes press the rest flat, how far the axis should reach and how far they do; null elsewhere, and where both ends are set.
export function beyond({ data, marks, stacked, floor, ceiling }) {
  if (stacked || (floor !== undefined && ceiling !== undefined)) return null;
  const seen = marks.flatMap((mark) => mark.points.flatMap(({ value, low, high }) => [value, low, high]));
  return calm(
    data.flatMap(({ curve, edges: own }) => [curve, ...own]),
    [floor, ceiling, ...seen].filter(Number.isFinite),
  );
}

// Whether so few steps are shown that each can have its number.
export function isFine(chart) {
  const [low, high] = chart.zoomed ?? steps(chart) ?? [0, Infinity];
  return high - low <= 7;
}

// The lower and the upper edge of a line's band, each a curve of its own.
export function edges(about, curve, source) {
  if (about.low && source[about.low] && source[about.high]) return [source[about.low], source[about.high]];
  const std = about.std && source[about.std];
  if (!std) return [];
  const edge = (sign) => ({
    steps: curve.steps,
    values: curve.values.map((value, at) => (value === null ? null : value + sign * (valueAt(std, curve.steps[at]) ?? 0))),
  });
  return [edge(-1), edge(1)];
}

// The newest value at or before a step.
export function valueAt(curve, step) {
  let low = 0,
    high = curve.steps.length - 1;
  if (high < 0 || curve.steps[0] > step) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (curve.steps[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return curve.values[low];
}

function steps({ data, marks }) {
  return span(
    data.map(({ curve }) => curve),
    marks.flatMap((mark) => mark.points),
  );
}

function along(chart, colour) {
  return {
    range: steps(chart),
    showgrid: false,
    tickformat: "d",
    ...(isFine(chart) ? { tick0: 0, dtick: 1 } : { nticks: 7 }),
    showspikes: true,
    spikemode: "across",
    spikethickness: 1,
    spikedash: "solid",
    spikecolor: colour("faint"),
    spikesnap: "data",
  };
}

function upright(chart, colour) {
  const { floor, ceiling, ticks, height, whole } = chart,
    cut = whole ? null : chart.beyond;
  return {
    fixedrange: true,
    gridcolor: colour("grid"),
    nticks: height > 240 ? 7 : 5,
    tickformat: ticks ?? (ceiling === 1 && floor === 0 ? ".0%" : "~g"),
    ...(cut ? { range: [cut.low, cut.high] } : { autorangeoptions: { include: [floor, ceiling].filter(Number.isFinite) } }),
    rangemode: floor === 0 ? "tozero" : "normal",
  };
}

function band({ line: { tone }, edges: [low, high] }, colour) {
  if (!low) return [];
  const edge = { mode: "lines", line: { width: 0 }, fillcolor: faint(colour(tone), 0.13) };
  return [
    { ...basis(low), ...edge, fill: "none" },
    { ...basis(high), ...edge, fill: "tonexty" },
  ];
}

function layer({ line: { tone }, curve }, colour) {
  const edge = { width: 0.6, color: colour("card") };
  return { ...basis(curve), stackgroup: "one", mode: "lines", line: edge, fillcolor: faint(colour(tone), 0.62) };
}

function line({ line: about, curve }, colour) {
  const tone = colour(about.tone),
    width = about.faint ? 1.2 : about.bold ? 2.4 : 1.7;
  return {
    ...basis(curve),
    mode: curve.steps.length === 1 ? "markers" : "lines",
    line: { color: tone, width, dash: about.dash },
    marker: { color: tone, size: 6 },
    opacity: about.faint ? 0.45 : 1,
    connectgaps: false,
  };
}

// A triangle at the edge for each value that lies behind it.
function outside({ curve }, { low, high }, tone) {
  const found = curve.steps
    .map((step, at) => ({ step, value: curve.values[at] }))
    .filter(({ value }) => value !== null && (value > high || value < low));
  return {
    x: found.map(({ step }) => step),
    y: found.map(({ value }) => (value > high ? high : low)),
    type: "scatter",
    mode: "markers",
    hoverinfo: "skip",
    cliponaxis: false,
    marker: { color: tone, size: 9, symbol: found.map(({ value }) => (value > high ? "triangle-up" : "triangle-down")) },
  };
}

// Points that were measured, with their intervals. A line between only two of them would read as a climb that somebody has watched.
function measured(mark, tone, ground) {
  const { points } = mark,
    isKnown = points.every((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
  const bars = isKnown && {
    type: "data",
    symmetric: false,
    array: points.map((point) => point.high - point.value),
    arrayminus: points.map((point) => point.value - point.low),
    color: tone,
    thickness: 1.4,
    width: 3,
  };
  return {
    x: points.map((point) => point.step),
    y: points.map((point) => point.value),
    type: "scatter",
    mode: points.length > 2 ? "lines+markers" : "markers",
    hoverinfo: "none",
    cliponaxis: false,
    line: { color: faint(tone, 0.45), width: 1.2, dash: "dot" },
    marker: { color: tone, size: 10, symbol: "diamond", line: { color: ground, width: 1.5 } },
    error_y: bars || undefined,
  };
}

function basis(curve) {
  return { x: curve.steps, y: curve.values, type: "scatter", hoverinfo: "none" };
}

function faint(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}
