// Charts as inline SVG: a curve with its band, stacked areas, dots with whiskers, a small curve without axes.
// A chart is drawn for the width that it has, so that letters keep their size. Values that are missing leave a gap.

import { element, figure, svg } from "./dom.js";

const MARGIN = { left: 46, right: 12, top: 10, bottom: 24 };
const MOST_POINTS = 500;

// series: [{ name, tone, values, low, high }], one value per step. options: { format, height, floor, ceiling }
export function curves(box, steps, series, options = {}) {
  if (!steps.length) return box.replaceChildren(element("p", { class: "none" }, "nothing recorded yet"));
  const thin = thinner(steps.length);
  const xs = [steps[0], ...thin(steps).slice(1, -1), ...steps.slice(1).slice(-1)];
  const lines = series.map((line) => ({ ...line, values: thin(line.values), low: line.low && thin(line.low), high: line.high && thin(line.high) }));
  const frame = makeFrame(box, xs, extent(lines, options), options);
  for (const line of lines) if (line.low) frame.root.append(band(frame, xs, line));
  for (const line of lines) frame.root.append(...strokes(frame, xs, line));
  addPointer(box, frame, xs, lines, options);
  if (lines.length > 1) box.append(element("p", { class: "legend" }, lines.map((line) => element("span", {}, key(line), line.name))));
}

// The same, one series upon the other.
export function stacked(box, steps, series, options = {}) {
  const sums = steps.map(() => 0);
  const layers = series.map((line) => {
    const low = [...sums];
    line.values.forEach((value, index) => { sums[index] += value ?? 0; });
    return { ...line, values: [...sums], low, high: [...sums], own: line.values };
  });
  curves(box, steps, layers, { ...options, floor: 0 });
}

// points: [{ label, value, low, high }] as dots with whiskers, for the few measurements of a run.
export function whiskers(box, points, options = {}) {
  if (!points.length) return box.replaceChildren(element("p", { class: "none" }, "not evaluated yet"));
  const xs = points.map((_, index) => index);
  const frame = makeFrame(box, [-0.5, points.length - 0.5], [0, 1], { ...options, labels: [] });
  points.forEach((point, index) => {
    const x = frame.x(index), y = frame.y(point.value);
    if (index) frame.root.append(svg("line", { class: "path tone-1 faint", x1: frame.x(index - 1), y1: frame.y(points[index - 1].value), x2: x, y2: y }));
    if (point.low !== undefined) frame.root.append(svg("line", { class: "whisker", x1: x, x2: x, y1: frame.y(point.low), y2: frame.y(point.high) }));
    frame.root.append(svg("circle", { class: "dot", cx: x, cy: y, r: 5 }));
    const every = Math.ceil(xs.length / 6);
    if (index % every && index !== xs.length - 1) return;
    frame.root.append(svg("text", { class: "label", x: x + 9, y: y + 4 }, options.format(point.value)));
    frame.root.append(svg("text", { class: "tick", x, y: frame.height - 6, "text-anchor": "middle" }, point.label));
  });
}

export function small(values, width = 92, height = 26) {
  const known = values.filter((value) => value !== null);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "small" });
  if (known.length < 2) return root;
  const low = Math.min(...known), span = Math.max(...known) - low || 1;
  const point = (value, index) => `${((index / (values.length - 1)) * (width - 4) + 2).toFixed(1)},${(height - 3 - ((value - low) / span) * (height - 6)).toFixed(1)}`;
  root.append(svg("polyline", { class: "path tone-0", points: values.map((value, index) => value === null ? "" : point(value, index)).join(" ") }));
  return root;
}

function thinner(length) {
  const size = Math.ceil(length / MOST_POINTS);
  if (size === 1) return (values) => values.map((value) => value ?? null);
  return (values) => {
    const means = [];
    for (let start = 0; start < values.length; start += size) {
      const known = values.slice(start, start + size).filter((value) => value !== null && value !== undefined);
      means.push(known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null);
    }
    return means;
  };
}

function extent(lines, options) {
  const all = lines.flatMap((line) => [...line.values, ...(line.low ?? []), ...(line.high ?? [])]).filter((value) => value !== null);
  if (!all.length) return [0, 1];
  const low = Math.min(options.floor ?? Infinity, ...all), high = Math.max(options.ceiling ?? -Infinity, ...all);
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function makeFrame(box, xs, [low, high], options) {
  const width = Math.max(box.clientWidth, 200), height = options.height ?? 190;
  const ticks = roundTicks(low, high, height > 220 ? 6 : 4);
  const bottom = Math.min(low, ticks[0]), top = Math.max(high, ticks[ticks.length - 1]);
  const first = xs[0], across = xs[xs.length - 1] - first || 1;
  const x = (value) => MARGIN.left + ((value - first) / across) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => height - MARGIN.bottom - ((value - bottom) / (top - bottom)) * (height - MARGIN.top - MARGIN.bottom);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of ticks) {
    root.append(svg("line", { class: tick === 0 ? "grid zero" : "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
    root.append(svg("text", { class: "tick", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, (options.format ?? tickText(ticks))(tick)));
  }
  for (const step of options.labels ?? stepTicks(first, xs[xs.length - 1], width)) {
    root.append(svg("text", { class: "tick", x: x(step), y: height - 6, "text-anchor": "middle" }, String(step)));
  }
  box.replaceChildren(root);
  return { root, x, y, width, height };
}

function roundTicks(low, high, wanted) {
  const span = high - low, power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= wanted);
  const ticks = [];
  for (let index = Math.floor(low / step + 1e-9); index <= Math.ceil(high / step - 1e-9); index += 1) ticks.push(Number((index * step).toPrecision(10)));
  return ticks;
}

function tickText(ticks) {
  const digits = Math.max(0, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9));
  return (value) => figure(value, Math.min(digits, 6));
}

function stepTicks(first, last, width) {
  if (last - first < 2) return [...new Set([first, last])].map(Math.round);
  const ticks = roundTicks(first, last, Math.max(3, Math.floor(width / 90)));
  const gap = (last - first) / (width / 40);
  const inner = ticks.filter((tick) => Number.isInteger(tick) && tick - first > gap && last - tick > gap);
  return [Math.round(first), ...inner, Math.round(last)];
}

function band(frame, xs, line) {
  const known = xs.map((_, index) => index).filter((index) => line.low[index] !== null && line.high[index] !== null);
  const edge = (values) => (index) => `${frame.x(xs[index]).toFixed(1)},${frame.y(values[index]).toFixed(1)}`;
  const points = [...known.map(edge(line.high)), ...known.reverse().map(edge(line.low))].join(" ");
  return svg("polygon", { class: `band tone-${line.tone} ${line.own ? "solid" : ""}`, points });
}

function strokes(frame, xs, line) {
  const pieces = [[]];
  line.values.forEach((value, index) => value === null ? pieces.push([]) : pieces[pieces.length - 1].push([frame.x(xs[index]), frame.y(value)]));
  return pieces.filter((piece) => piece.length).map((piece) => piece.length === 1
    ? svg("circle", { class: `point tone-${line.tone}`, cx: piece[0][0], cy: piece[0][1], r: 2.5 })
    : svg("polyline", { class: `path tone-${line.tone} ${line.bold ? "bold" : ""}`, points: piece.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") }));
}

function addPointer(box, frame, xs, lines, options) {
  const rule = svg("line", { class: "rule", y1: MARGIN.top, y2: frame.height - MARGIN.bottom, visibility: "hidden" });
  const note = element("div", { class: "note", hidden: true });
  const format = options.format ?? figure;
  frame.root.append(rule);
  box.append(note);
  frame.root.addEventListener("pointermove", (event) => {
    const at = event.clientX - frame.root.getBoundingClientRect().left;
    const index = xs.reduce((best, step, candidate) => Math.abs(frame.x(step) - at) < Math.abs(frame.x(xs[best]) - at) ? candidate : best, 0);
    rule.setAttribute("x1", frame.x(xs[index]));
    rule.setAttribute("x2", frame.x(xs[index]));
    rule.setAttribute("visibility", "visible");
    note.replaceChildren(element("b", {}, `step ${Math.round(xs[index])}`), ...lines.map((line) => row(line, index, format)));
    note.hidden = false;
    note.classList.toggle("left", frame.x(xs[index]) > frame.width / 2);
  });
  frame.root.addEventListener("pointerleave", () => { rule.setAttribute("visibility", "hidden"); note.hidden = true; });
}

function row(line, index, format) {
  const value = line.own ? line.own[index] : line.values[index];
  const spread = line.low && !line.own && line.low[index] !== null ? ` (${format(line.low[index])} to ${format(line.high[index])})` : "";
  return element("span", {}, key(line), `${line.name} ${value === null || value === undefined ? "-" : format(value)}${spread}`);
}

function key(line) {
  return element("i", { class: `key tone-${line.tone}` });
}
