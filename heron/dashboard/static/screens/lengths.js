// Lengths: how long answers are, how many are cut off, and whether right ones are longer or shorter than the others.

import { Chart } from "../charts.js";
import { element, replace } from "../dom.js";
import { count, share } from "../format.js";
import { histogram } from "../small.js";
import { address, ask } from "../source.js";

const RECENT = 20;

export function build({ run, link, asked, go, attempt }) {
  const about = (name) => link(run, "explain", `?metric=${encodeURIComponent(name)}`);
  const tokens = (value) => count(value);
  const length = new Chart({
    title: "Length of answers",
    say: "Tokens: the mean, and the span from the shortest tenth to the longest tenth.",
    height: 260,
    wide: true,
    floor: 0,
    format: tokens,
    about: about("completions/mean_length"),
    lines: [
      {
        name: "completions/mean_length",
        low: "completions/p10_length",
        high: "completions/p90_length",
        label: "mean",
        tone: "heron",
        bold: true,
      },
      { name: "completions/mean_terminated_length", label: "mean of those that ended by themselves", tone: "lake", dash: "dot" },
    ],
  });
  const cut = new Chart({
    title: "Cut off",
    say: "Share of answers that reached the token limit. Above 30 %, raise the limit.",
    floor: 0,
    ceiling: 1,
    format: (value) => share(value, 1),
    about: about("completions/clipped_ratio"),
    lines: [{ name: "completions/clipped_ratio", label: "cut off", tone: "rust" }],
  });
  const apart = new Chart({
    title: "Right against wrong",
    say: "Mean length of right answers and of the others. Far apart, a limit may cut good reasoning, or long answers ramble.",
    floor: 0,
    format: tokens,
    about: about("completions/mean_length_right"),
    lines: [
      { name: "completions/mean_length_right", label: "right", tone: "reed" },
      { name: "completions/mean_length_wrong", label: "not right", tone: "rust" },
    ],
  });
  const from = number("first step", asked.get("from")),
    to = number("last step", asked.get("to")),
    picture = element("div", {}),
    words = element("p", { class: "say" });
  const node = element(
    "div",
    { class: "grid" },
    length.node,
    cut.node,
    apart.node,
    element(
      "section",
      { class: "card wide" },
      element(
        "div",
        { class: "heading" },
        element("h3", {}, "How lengths are spread"),
        element("span", { class: "range" }, "steps ", from, " to ", to),
      ),
      words,
      picture,
    ),
  );
  let last = 0,
    shown = "";
  from.addEventListener("change", () => attempt(() => recount(true)));
  to.addEventListener("change", () => attempt(() => recount(true)));

  async function recount(byHand = false) {
    const chosen = { from: from.value || Math.max(1, last - RECENT + 1), to: to.value || last };
    if (byHand) go({ from: from.value, to: to.value });
    const key = JSON.stringify(chosen);
    if (!last || key === shown) return;
    shown = key;
    const found = await ask(address(run, "/lengths", chosen)).catch((error) => {
      shown = "";
      throw error;
    });
    if (key !== shown) return;
    const { edges, series, total } = spread(found);
    replace(
      words,
      `${count(total)} answers of steps ${chosen.from} to ${chosen.to}.`,
      series.map((one) =>
        element(
          "span",
          { class: `legend-item tone-${one.tone}` },
          element("i", { class: "key" }),
          ` ${one.label} `,
          element("b", {}, count(one.total)),
        ),
      ),
    );
    replace(
      picture,
      total
        ? histogram(edges, series, { width: Math.max(280, picture.clientWidth), label: `lengths of ${total} answers` })
        : element("p", { class: "none" }, "no answers were recorded of these steps"),
    );
  }

  return {
    node,
    names: () => [length, cut, apart].flatMap((chart) => chart.names),
    close: () => [length, cut, apart].forEach((chart) => chart.close()),
    update: (state, curves) => {
      last = state.step;
      from.placeholder = String(Math.max(1, last - RECENT + 1));
      to.placeholder = String(last);
      return Promise.all([length.draw(curves), cut.draw(curves), apart.draw(curves), recount()]);
    },
  };
}

function spread(found) {
  const series = [
    ["right", "reed", found.right],
    ["not right", "rust", found.not_right],
    ["not judged", "stone", found.unknown],
  ].map(([label, tone, counts]) => ({ label, tone, counts, total: counts.reduce((sum, one) => sum + one, 0) }));
  const there = series.filter((one) => one.total > 0);
  return { edges: found.edges, series: there, total: there.reduce((sum, one) => sum + one.total, 0) };
}

function number(label, value) {
  return element("input", { type: "number", min: 1, "aria-label": label, value });
}
