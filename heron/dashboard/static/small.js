// Small drawings that need no library: a curve without axes, a bar of parts, histograms side by side; and long texts made short.

import { element, fill, plain, replace, styled, svg } from "./dom.js";
import { count } from "./format.js";

const MOST_LINES = 14;
const MOST_LETTERS = 1200;

export function spark(values, { width = 74, height = 22, tone = "heron" } = {}) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const root = svg("svg", { class: `spark tone-${tone}`, width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (known.length < 2) return root;
  const low = Math.min(...known),
    span = Math.max(...known) - low;
  const place = (value, index) => [
    (index / (values.length - 1)) * (width - 5) + 1,
    span ? height - 3 - ((value - low) / span) * (height - 6) : height / 2,
  ];
  let path = "",
    pen = "M";
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    path += `${pen}${place(value, index)
      .map((number) => number.toFixed(1))
      .join(" ")}`;
    pen = "L";
  });
  const [x, y] = place(known.at(-1), values.lastIndexOf(known.at(-1)));
  root.append(svg("path", { d: path }), svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 2.2 }));
  return root;
}

// parts: [{ label, value, tone, text }], drawn by their share of the sum (or of `whole`)
export function partsBar(parts, { whole, label } = {}) {
  const shown = parts.filter((part) => part.value > 0),
    sum = whole ?? shown.reduce((total, part) => total + part.value, 0);
  const bar = element(
    "div",
    { class: "parts", role: "img", "aria-label": `${label}: ${shown.map((part) => `${part.label} ${part.text}`).join(", ")}` },
    shown.map((part) =>
      styled(element("i", { class: `tone-${part.tone}`, title: `${part.label} ${part.text}` }), {
        width: `${(100 * part.value) / (sum || 1)}%`,
      }),
    ),
  );
  const legend = element(
    "ul",
    { class: "legend" },
    parts.map((part) =>
      element("li", { class: `tone-${part.tone}` }, element("i", { class: "key" }), `${part.label} `, element("b", {}, part.text)),
    ),
  );
  return [bar, legend];
}

// One bar per bin and series, side by side from the same ground. series: [{ label, tone, counts }]
export function histogram(edges, series, { width = 600, height = 200, label } = {}) {
  const ground = height - 22,
    most = Math.max(1, ...series.flatMap((one) => one.counts));
  const root = svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": plain(label) });
  const bins = edges.length - 1,
    room = width / bins;
  series.forEach((one, number) =>
    one.counts.forEach((amount, bin) => {
      const tall = (amount / most) * (ground - 8),
        wide = (room - 2) / series.length;
      if (!amount) return;
      const box = svg("rect", {
        class: `tone-${one.tone}`,
        x: (bin * room + 1 + number * wide).toFixed(1),
        y: (ground - Math.max(tall, 1)).toFixed(1),
        width: Math.max(1, wide).toFixed(1),
        height: Math.max(tall, 1).toFixed(1),
        rx: 1.5,
      });
      box.append(svg("title", {}, `${Math.round(edges[bin])} to ${Math.round(edges[bin + 1])} tokens: ${amount} ${one.label}`));
      root.append(box);
    }),
  );
  root.append(svg("line", { class: "ground", x1: 0, x2: width, y1: ground, y2: ground }));
  const every = Math.max(1, Math.round(bins / 8));
  edges.forEach((edge, at) => {
    if (at % every === 0)
      root.append(
        svg(
          "text",
          { x: Math.min(width - 2, at * room), y: height - 5, "text-anchor": at === 0 ? "start" : at === bins ? "end" : "middle" },
          String(Math.round(edge)),
        ),
      );
  });
  return root;
}

// A text that may be long, in a line: its beginning, and the whole on demand.
export function cut(text, { tag = "b", most = 60 } = {}) {
  const whole = String(text),
    short = beginning(whole, most);
  if (short.length === whole.length) return element(tag, { class: "hostile" }, whole);
  const shown = element(tag, { class: "hostile" }, short, "…");
  const all = more(`all ${count(whole.length)} characters`, (isWhole) => replace(shown, isWhole ? whole : [short, "…"]));
  return element("span", { class: "cut" }, shown, " ", all);
}

// A block of text behind what stands in the node already: its first lines, and all on demand. What is not seen is not in the page,
// for a browser may take a minute to lay out half a million characters.
export function fold(node, text) {
  const lines = text.split("\n");
  if (lines.length <= MOST_LINES && text.length <= MOST_LETTERS) return fill(node, text);
  const head = beginning(lines.slice(0, MOST_LINES).join("\n"), MOST_LETTERS),
    before = [...node.childNodes],
    words = lines.length > MOST_LINES ? `all ${count(lines.length)} lines` : `all ${count(text.length)} characters`;
  const show = (isWhole) => {
    node.classList.toggle("folded", !isWhole);
    replace(node, before, isWhole ? text : [head, "…"]);
  };
  show(false);
  return [node, more(words, show)];
}

// The first characters, none of them halved.
function beginning(text, most) {
  return [...text.slice(0, 2 * most)].slice(0, most).join("");
}

function more(words, show) {
  const button = element("button", { type: "button", class: "small", "aria-expanded": "false", onclick: () => turn() }, words);
  const turn = () => {
    const isWhole = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(isWhole));
    replace(button, isWhole ? "less" : words);
    show(isWhole);
  };
  return button;
}
