// A chart: a heading, a sentence on what it shows, the lines with their values, and the drawing, which plotly makes (see drawing.js).
// The values stand above the drawing and follow the pointer or the arrow keys, so nothing ever covers the lines; names of the run
// (of reward functions, of runs) stay in the page's own text and never reach plotly, which would read some of them as markup.

import { element, plain, renew } from "./dom.js";
import { beyond, edges, isFine, layout, traces, valueAt } from "./drawing.js";
import { exact } from "./format.js";
import { Unreachable } from "./source.js";

let library = null;

function load() {
  library ??= new Promise((done, failed) => {
    const lost = () => failed(new Unreachable("The server does not answer; the page keeps trying."));
    document.head.append(element("script", { src: "/plotly.min.js", onload: () => done(globalThis.Plotly), onerror: lost }));
  }).catch((error) => {
    library = null;
    throw error;
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
      data: null,
      cursor: null,
      zoomed: null,
      whole: false,
      drawn: Promise.resolve(),
    });
    this.plot = element("div", {
      class: "plot",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "chart",
      onkeydown: (event) => this.press(event),
      onblur: () => this.walk(null),
    });
    this.values = element("div", { class: "values", "aria-atomic": "true" });
    this.left = element("span", {});
    this.switch = element("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.toggle() }, "full range");
    this.outside = element("p", { class: "outside", hidden: true }, this.left, this.switch);
    const help = about && element("a", { class: "help", href: about, "aria-label": `what ${title} means`, title: "what this means" }, "?");
    this.node = element(
      "section",
      { class: wide ? "card chart wide" : "card chart" },
      element("div", { class: "heading" }, element("h3", {}, title), help),
      say && element("p", { class: "say" }, say),
      this.values,
      this.outside,
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
    Object.assign(this, { curves, marks: marks.filter((mark) => mark.points.length) });
    this.data = this.lines
      .map((line) => ({ line, curve: (line.of ?? curves)[line.name] }))
      .filter(({ curve }) => curve?.values.some((value) => value !== null))
      .map(({ line, curve }) => ({ line, curve, edges: edges(line, curve, line.of ?? curves) }));
    this.plot.classList.toggle("empty", !this.data.length && !this.marks.length);
    this.beyond = beyond(this);
    this.say();
    this.readout();
    this.plot.setAttribute("aria-label", this.summary());
    const painted = this.drawn.then(() => this.paint());
    this.drawn = painted.catch(() => null); // said by whoever waits for this one; the next is drawn all the same
    return painted;
  }

  // That a spike is left out, and a switch to see it as well.
  say() {
    this.outside.hidden = !this.beyond;
    if (!this.beyond) return;
    const { low, high, least, most } = this.beyond;
    const ways = [most > high && `up to ${this.format(most)}`, least < low && `down to ${this.format(least)}`].filter(Boolean);
    renew(this.left, [ways, this.whole], () => `${this.whole ? "Spikes reach" : "Beyond the axis:"} ${ways.join(", ")}`);
  }

  toggle() {
    this.whole = !this.whole;
    this.switch.setAttribute("aria-pressed", String(this.whole));
    return this.draw(this.curves, this.marks);
  }

  async paint() {
    if (!this.plot.isConnected) return;
    const plotly = await load();
    if (!this.plot.isConnected || !this.plot.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    await plotly.react(this.plot, traces(this, colour), layout(this, colour, style), {
      displayModeBar: false,
      responsive: true,
      doubleClick: "reset",
    });
    if (this.listens) return;
    this.listens = true;
    this.plot.on("plotly_hover", ({ points }) => this.point(points[0].x));
    this.plot.on("plotly_unhover", () => this.point(null));
    this.plot.on("plotly_relayout", (change) => this.zoom(change));
  }

  // Between few steps there is nothing to write at the axis but the steps themselves.
  zoom(change) {
    const wasFine = isFine(this);
    if ("xaxis.range[0]" in change) this.zoomed = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    else if ("xaxis.range" in change || "xaxis.autorange" in change) this.zoomed = null;
    if (isFine(this) !== wasFine) this.redraw();
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
    this.walk(step);
  }

  // As `point`, with the keys: then the values are said as well, which they are not while news or a pointer change them.
  walk(step) {
    this.values.setAttribute("aria-live", step === null ? "off" : "polite");
    this.point(step);
  }

  readout() {
    const at = this.cursor;
    const rows = (this.data ?? []).map(({ line, curve }) => [
      line.label,
      line.tone,
      this.format(at === null ? curve.values.at(-1) : valueAt(curve, at)),
    ]);
    const marks = this.marks.map((mark) => {
      const point = at === null ? mark.points.at(-1) : mark.points.filter((one) => one.step <= at).at(-1);
      return [mark.label, mark.tone, point ? `${this.format(point.value)}${spread(point, this.format)}` : "–"];
    });
    const found = [...rows, ...marks];
    renew(this.values, [found, at], () => [
      found.map((one) => row(...one)),
      at !== null && element("span", { class: "when" }, `step ${Math.round(at)}`),
      !found.length && element("span", { class: "faint" }, "not recorded"),
    ]);
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
