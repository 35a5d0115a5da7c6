// A chart: a heading, a sentence on what it shows, the lines with their values, and the drawing, which plotly makes.
// The values stand above the drawing and follow the pointer or the arrow keys, so nothing ever covers the lines; names of the run
// (of reward functions, of runs) stay in the page's own text and never reach plotly, which would read some of them as markup.

import { element, plain, replace } from "./dom.js";
import { exact } from "./format.js";

let library = null;

function load() {
  library ??= new Promise((done, failed) => {
    document.head.append(element("script", { src: "/plotly.min.js", onload: () => done(globalThis.Plotly), onerror: failed }));
  });
  return library;
}

// lines: [{ name, label, tone, std, low, high, of, bold, faint, dash }]: `name`, `std`, `low`, `high` are names of the run's numbers,
// `of` another source of curves. marks: [{ label, tone, points: [{ step, value, low, high }] }].
export class Chart {
  constructor({ title, say, about, lines, format = exact, floor, ceiling, height = 190, stacked = false, wide = false, ticks }) {
    Object.assign(this, {
      title,
      lines,
      format,
      floor,
      ceiling,
      height,
      stacked,
      ticks,
      marks: [],
      cursor: null,
      drawn: Promise.resolve(),
    });
    this.plot = element("div", {
      class: "plot",
      tabindex: 0,
      role: "img",
      onkeydown: (event) => this.press(event),
      onblur: () => this.point(null),
    });
    this.values = element("div", { class: "values" });
    const help = about && element("a", { class: "help", href: about, "aria-label": `what ${title} means`, title: "what this means" }, "?");
    this.node = element(
      "section",
      { class: wide ? "card chart wide" : "card chart" },
      element("div", { class: "heading" }, element("h3", {}, title), help),
      say && element("p", { class: "say" }, say),
      this.values,
      this.plot,
    );
    this.plot.style.height = `${height}px`;
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.data && this.draw(this.curves, this.marks);
    this.scheme.addEventListener("change", this.redraw);
  }

  get names() {
    return this.lines
      .filter((line) => !line.of)
      .flatMap((line) => [line.name, line.std, line.low, line.high])
      .filter(Boolean);
  }

  // curves: name -> { steps, values }
  draw(curves, marks = []) {
    Object.assign(this, { curves, marks });
    this.data = this.lines
      .map((line) => ({ line, curve: (line.of ?? curves)[line.name] }))
      .filter(({ curve }) => curve?.values.some((value) => value !== null));
    this.plot.classList.toggle("empty", !this.data.length && !marks.length);
    this.readout();
    this.plot.setAttribute("aria-label", this.summary());
    this.drawn = this.drawn.then(() => this.paint()).catch((error) => console.error(error));
    return this.drawn;
  }

  async paint() {
    if (!this.plot.isConnected) return;
    const plotly = await load();
    if (!this.plot.isConnected || !this.plot.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    await plotly.react(this.plot, this.traces(colour), this.layout(colour, style), {
      displayModeBar: false,
      responsive: true,
      doubleClick: "reset",
    });
    if (this.listens) return;
    this.listens = true;
    this.plot.on("plotly_hover", ({ points }) => this.point(points[0].x));
    this.plot.on("plotly_unhover", () => this.point(null));
  }

  traces(colour) {
    const bands = [],
      lines = [];
    this.data.forEach(({ line, curve }) => {
      const tone = colour(line.tone),
        mode = curve.steps.length === 1 ? "markers" : "lines";
      if (this.stacked)
        return lines.push({
          ...basis(curve),
          stackgroup: "one",
          mode: "lines",
          line: { width: 0.6, color: colour("card") },
          fillcolor: faint(tone, 0.62),
        });
      for (const edge of this.edges(line, curve))
        bands.push({
          ...basis(edge),
          mode: "lines",
          line: { width: 0 },
          fill: bands.length % 2 ? "tonexty" : "none",
          fillcolor: faint(tone, 0.13),
        });
      const width = line.faint ? 1.2 : line.bold ? 2.4 : 1.7;
      return lines.push({
        ...basis(curve),
        mode,
        line: { color: tone, width, dash: line.dash },
        marker: { color: tone, size: 6 },
        opacity: line.faint ? 0.45 : 1,
        connectgaps: false,
      });
    });
    const points = this.marks.filter((mark) => mark.points.length).map((mark) => measured(mark, colour(mark.tone), colour("card")));
    return [...bands, ...lines, ...points];
  }

  // The lower and the upper edge of a line's band, each a curve of its own.
  edges(line, curve) {
    const source = line.of ?? this.curves;
    if (line.low && source[line.low] && source[line.high]) return [source[line.low], source[line.high]];
    const std = line.std && source[line.std];
    if (!std) return [];
    const edge = (sign) => ({
      steps: curve.steps,
      values: curve.values.map((value, at) => (value === null ? null : value + sign * (valueAt(std, curve.steps[at]) ?? 0))),
    });
    return [edge(-1), edge(1)];
  }

  layout(colour, style) {
    const tick = { color: colour("soft"), size: 11.5, family: getComputedStyle(document.body).fontFamily };
    const axis = { zeroline: false, tickfont: tick, showline: false, ticks: "", automargin: false, exponentformat: "e", minexponent: 2 };
    const bounds = [this.floor ?? null, this.ceiling ?? null];
    return {
      height: this.height,
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
      xaxis: {
        ...axis,
        range: this.span(),
        showgrid: false,
        tickformat: "d",
        nticks: 7,
        showspikes: true,
        spikemode: "across",
        spikethickness: 1,
        spikedash: "solid",
        spikecolor: colour("faint"),
        spikesnap: "data",
      },
      yaxis: {
        ...axis,
        fixedrange: true,
        gridcolor: colour("grid"),
        nticks: this.height > 240 ? 7 : 5,
        tickformat: this.ticks ?? (this.ceiling === 1 && this.floor === 0 ? ".0%" : "~g"),
        autorangeoptions: { include: bounds.filter((bound) => bound !== null) },
        rangemode: this.floor === 0 ? "tozero" : "normal",
      },
    };
  }

  // From the first to the last step of anything that is drawn.
  span() {
    const ends = [
      ...this.data.flatMap(({ curve }) => [curve.steps[0], curve.steps.at(-1)]),
      ...this.marks.flatMap((mark) => mark.points.map((point) => point.step)),
    ];
    if (!ends.length) return undefined;
    const low = Math.min(...ends),
      high = Math.max(...ends),
      room = (high - low || 2) * 0.012;
    return [low - Math.min(room, 0.5), high + room];
  }

  // Shows the values at a step (null: the newest ones).
  point(step) {
    this.cursor = step;
    this.readout();
  }

  press(event) {
    const steps = this.data?.[0]?.curve.steps;
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) || !steps?.length) return;
    event.preventDefault();
    event.stopPropagation();
    const now = this.cursor === null ? steps.length : steps.findIndex((step) => step >= this.cursor);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: steps.length - 1 }[event.key];
    const step = steps[Math.max(0, Math.min(to, steps.length - 1))];
    globalThis.Plotly?.Fx.hover(this.plot, [{ xval: step }], "xy");
    this.point(step);
  }

  readout() {
    const at = this.cursor;
    const rows = (this.data ?? []).map(({ line, curve }) =>
      row(line.label, line.tone, this.format(at === null ? curve.values.at(-1) : valueAt(curve, at))),
    );
    const marks = this.marks
      .filter((mark) => mark.points.length)
      .map((mark) => {
        const point = at === null ? mark.points.at(-1) : mark.points.filter((one) => one.step <= at).at(-1);
        return row(mark.label, mark.tone, point ? `${this.format(point.value)}${spread(point, this.format)}` : "–");
      });
    const when = at === null ? "" : element("span", { class: "when" }, `step ${Math.round(at)}`);
    replace(this.values, rows, marks, when);
    if (!rows.length && !marks.length) replace(this.values, element("span", { class: "faint" }, "not recorded"));
  }

  summary() {
    const parts = (this.data ?? []).map(({ line, curve }) => {
      const known = curve.values.filter((value) => value !== null);
      const values = `from ${this.format(known[0])} to ${this.format(known.at(-1))}`;
      return `${line.label} ${values} between steps ${curve.steps[0]} and ${curve.steps.at(-1)}`;
    });
    return plain(`${this.title}: ${parts.join("; ") || "nothing recorded"}. Arrow keys move along the steps.`);
  }

  close() {
    this.scheme.removeEventListener("change", this.redraw);
    if (this.listens) globalThis.Plotly?.purge(this.plot);
  }
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

function basis(curve) {
  return { x: curve.steps, y: curve.values, type: "scatter", hoverinfo: "none" };
}

function measured(mark, tone, ground) {
  const points = mark.points.filter((point) => point.value !== null && point.value !== undefined);
  const bars = points.every((point) => point.low !== undefined && point.high !== undefined) && {
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
    mode: "lines+markers",
    hoverinfo: "none",
    cliponaxis: false,
    line: { color: faint(tone, 0.45), width: 1.2, dash: "dot" },
    marker: { color: tone, size: 10, symbol: "diamond", line: { color: ground, width: 1.5 } },
    error_y: bars || undefined,
  };
}

function spread(point, format) {
  return point.low === undefined || point.high === undefined ? "" : ` (${format(point.low)} to ${format(point.high)})`;
}

function row(label, tone, value) {
  return element(
    "span",
    { class: `value tone-${tone}` },
    element("i", { class: "key" }),
    element("span", { class: "label hostile" }, label),
    element("b", {}, value),
  );
}

function faint(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}
