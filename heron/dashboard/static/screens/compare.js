// Compare runs: first what they were told to do otherwise, then what became of them.

import { Chart } from "../charts.js";
import { element, replace, styled } from "../dom.js";
import { duration, exact, share } from "../format.js";
import { ask, Curves } from "../source.js";
import { table } from "../table.js";
import { Picker } from "./picker.js";

const TONES = ["heron", "beak", "reed", "plum", "rust", "lake"];
const SHOWN = [
  { title: "Reward", name: "reward" },
  { title: "Right answers", name: "pass@1", floor: 0, ceiling: 1, format: share },
  { title: "Length of answers", name: "completions/mean_length", floor: 0 },
  { title: "Entropy", name: "entropy", floor: 0 },
];
const FIGURES = [
  ["step", (one) => exact(one.step)],
  ["held-out accuracy", (one) => (one.after === null ? share(one.before) : `${share(one.before)} → ${share(one.after)}`)],
  ["reward", (one) => exact(one.means.reward)],
  ["right answers", (one) => share(one.means["pass@1"])],
  ["length", (one) => exact(one.means["completions/mean_length"])],
  ["cut off", (one) => share(one.means["completions/clipped_ratio"])],
  ["entropy", (one) => exact(one.means.entropy)],
  ["a step", (one) => duration(one.means["time/step"])],
];

export function build({ run, asked, runs, go, link, attempt }) {
  let chosen = asked.getAll("with").filter((name) => name !== run);
  const picker = new Picker(TONES, choose),
    settings = element("div", {}),
    figures = element("div", {}),
    grid = element("div", { class: "grid" });
  const node = element(
    "div",
    {},
    picker.node,
    element("section", { class: "card spaced" }, element("h3", {}, "What is set otherwise"), settings),
    element("section", { class: "card spaced" }, element("h3", {}, "What became of it"), figures),
    grid,
  );
  const others = new Map();
  let charts = [],
    seen = "";

  const compared = () => [run, ...chosen];

  function list(all) {
    const names = all.filter((one) => one.status !== "unreadable").map((one) => one.name);
    if (!asked.has("with") && !chosen.length) chosen = nearest(all, run);
    picker.draw(names, compared());
  }

  function choose(name, isOn) {
    chosen = isOn ? [...chosen, name] : chosen.filter((one) => one !== name);
    go({ with: chosen });
    asked = new URLSearchParams(chosen.map((one) => ["with", one]).concat(chosen.length ? [] : [["with", ""]]));
    list(runs());
    return attempt(() => redraw(true));
  }

  async function redraw(isNew) {
    const names = compared();
    const key = JSON.stringify(names);
    if (isNew || key !== seen) arrange(names);
    seen = key;
    const answer = await ask(`/api/compare?${new URLSearchParams(names.map((name) => ["run", name]))}`);
    if (key !== seen) return;
    drawSettings(settings, answer, names.length);
    drawFigures(figures, answer);
    const wanted = SHOWN.map(({ name }) => name);
    const curves = await Promise.all(names.map((name) => source(name).need(wanted)));
    if (key !== seen) return;
    charts.forEach((chart) =>
      chart.lines.forEach((line, index) => {
        line.of = curves[index];
      }),
    );
    await Promise.all(charts.map((chart) => chart.draw({})));
  }

  function source(name) {
    if (!others.has(name)) others.set(name, new Curves(name));
    return others.get(name);
  }

  function arrange(names) {
    charts.forEach((chart) => chart.close());
    charts = SHOWN.map(
      ({ title, name, floor, ceiling, format }) =>
        new Chart({
          title,
          floor,
          ceiling,
          format,
          height: 220,
          about: link(run, "explain", `?metric=${encodeURIComponent(name)}`),
          lines: names.map((label, index) => ({ name, label, tone: TONES[index], of: {} })),
        }),
    );
    replace(
      grid,
      charts.map((chart) => chart.node),
    );
  }

  return {
    node,
    hear: list,
    names: () => [],
    close: () => charts.forEach((chart) => chart.close()),
    update: async () => {
      list(runs());
      others.delete(run);
      for (const name of chosen) if (runs().find((one) => one.name === name)?.status === "running") others.delete(name);
      await redraw(false);
    },
  };
}

// The newest run of the same recipe, or else the newest one. (A link to the same run is no other one.)
function nearest(all, run) {
  const own = all.find((one) => one.name === run);
  const others = all.filter((one) => one.name !== run && one.status !== "unreadable" && one.lies_at !== own?.lies_at);
  const found = others.find((one) => one.recipe === own?.recipe) ?? others[0];
  return found ? [found.name] : [];
}

function drawSettings(box, { runs, different, unrecorded, settings }, amount) {
  if (amount < 2) return replace(box, element("p", { class: "none" }, "Choose a second run."));
  const gaps = unrecorded.length ? ` ${unrecorded.length} more were not recorded by each run, and were at their default there.` : "";
  const differ = different.length ? `${different.length} of ${settings} settings.` : "No setting differs.";
  const rows = [...different, ...unrecorded];
  if (!rows.length) return replace(box, element("p", { class: "none" }, `All ${settings} settings are the same.`));
  return replace(
    box,
    element("p", { class: "say" }, differ + gaps),
    sideBySide(
      "setting",
      runs,
      rows.map(({ key, values, absent }) => [
        element("code", { class: "key-name" }, breakable(key)),
        values.map((value) =>
          value === null ? element("span", { class: "faint" }, absent) : element("code", { class: "hostile" }, value),
        ),
      ]),
    ),
  );
}

function drawFigures(box, { runs, figures }) {
  replace(
    box,
    element("p", { class: "say" }, "Means over each run's last 20 steps."),
    sideBySide(
      "",
      runs,
      FIGURES.map(([label, format]) => [label, figures.map(format)]),
    ),
  );
}

// The runs side by side; a phone gives each its share of the width.
function sideBySide(corner, runs, rows) {
  const columns = [{ label: corner }, ...runs.map((label, index) => ({ label, tone: TONES[index] }))],
    body = rows.map(([label, values]) => ({ label, values }));
  return styled(element("div", { class: "scroll" }, table(columns, body)), { "--runs": String(runs.length) });
}

// A key may be broken after its dots and bars, where there is no room for it, but not within its words.
function breakable(key) {
  return key.split(/(?<=[._])/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
}
