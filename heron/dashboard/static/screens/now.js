// Now: whether it learns, what looks wrong, and what the machine is doing. The first sentence is the one that counts.

import { Chart } from "../charts.js";
import { element, replace, styled } from "../dom.js";
import { clock, count, duration, exact, gib, share } from "../format.js";
import { partsBar } from "../small.js";
import { Alerts } from "./alerts.js";
import { drawChanges, drawVerdict } from "./verdict.js";

const PHASES = new Map([
  ["sample", ["sampling", "lake"]],
  ["score", ["scoring", "beak"]],
  ["train", ["training", "heron"]],
  ["record", ["recording", "plum"]],
  ["unaccounted", ["the rest", "stone"]],
]);
const PART_TONES = ["heron", "lake", "beak", "plum", "reed", "stone"];
const PEAK = new Map([
  ["load", "while loading"],
  ["sample", "while sampling"],
  ["score", "while scoring"],
  ["train", "while training"],
  ["evaluation", "while evaluating"],
]);
const LUCK = [
  ["groups/all_right", "all right", "reed"],
  ["groups/mixed", "mixed", "beak"],
  ["groups/all_wrong", "all wrong", "stone"],
];

export function build({ run, link }) {
  const parts = Object.fromEntries(
    ["verdict", "changes", "luck", "phases", "memory", "facts", "messages"].map((name) => [
      name,
      element("div", { class: name }),
    ]),
  );
  parts.verdict.setAttribute("aria-live", "polite");
  const alerts = new Alerts();
  const chart = new Chart({
    title: "Reward",
    say: "What an answer earned on average; the shade is one standard deviation. Diamonds are held-out problems, never trained on; between them nothing was measured.",
    height: 300,
    wide: true,
    about: link(run, "explain", "?metric=reward"),
    lines: [{ name: "reward", std: "reward_std", label: "reward", tone: "heron", bold: true }],
  });
  const grid = element(
    "div",
    { class: "grid" },
    chart.node,
    card("Luck", "Of the newest groups, how many had right and wrong answers side by side: only those teach.", parts.luck),
    card("A step", "Where its seconds go.", parts.phases),
    card("Memory", "What was planned, and what was taken.", parts.memory),
    card("The machine", "Speed, tokens, the last checkpoint.", parts.facts),
  );
  const node = element(
    "div",
    {},
    element("section", { class: "hero" }, parts.verdict, parts.changes),
    alerts.node,
    grid,
    parts.messages,
  );
  return {
    node,
    names: () => chart.names,
    close: () => chart.close(),
    update: (state, curves) => {
      drawVerdict(parts.verdict, state.verdict);
      drawChanges(parts.changes, state);
      alerts.draw(state);
      drawLuck(parts.luck, state);
      drawPhases(parts.phases, state.time);
      drawMemory(parts.memory, state.memory);
      drawFacts(parts.facts, state);
      drawMessages(parts.messages, state.messages);
      return chart.draw(curves, [heldOut(state.evaluations)]);
    },
  };
}

// Held-out rewards lie on the same axis as those of the training problems.
export function heldOut(evaluations, key = "mean_reward", label = "held-out reward") {
  return {
    label,
    tone: "reed",
    points: evaluations
      .filter((one) => Number.isFinite(one[key]))
      .map((one) => ({ step: one.step ?? 0, value: one[key], low: one[`${key}_low`], high: one[`${key}_high`] })),
  };
}

function card(title, say, ...content) {
  return element("section", { class: "card" }, element("h3", {}, title), element("p", { class: "say" }, say), content);
}

function drawLuck(box, { latest, step }) {
  if (!step) return replace(box, element("p", { class: "none" }, "no step yet"));
  const parts = LUCK.map(([name, label, tone]) => ({ label, tone, value: latest[name], text: share(latest[name]) }));
  if (parts.every((part) => !Number.isFinite(part.value))) return replace(box, element("p", { class: "none" }, "no verifier, so no verdicts"));
  return replace(
    box,
    partsBar(parts, { whole: 1, label: "groups of the newest step" }),
    element(
      "p",
      { class: "aside" },
      "One answer is right in ",
      element("b", {}, share(latest["pass@1"])),
      ", one of a group's in ",
      element("b", {}, share(latest["pass@k"])),
      ".",
    ),
  );
}

function drawPhases(box, time) {
  const parts = Object.entries(time.phases).map(([name, value]) => {
    const [label, tone] = PHASES.get(name) ?? [name, "moss"];
    return { label, tone, value, text: duration(value) };
  });
  if (!parts.length) return replace(box, element("p", { class: "none" }, "no step yet"));
  return replace(
    box,
    partsBar(parts, { label: "seconds of a step" }),
    element("p", { class: "aside" }, element("b", {}, duration(time.per_step)), ` a step, mean of the last ${time.steps}.`),
  );
}

function drawMemory(box, memory) {
  const beside = memory.place === "host";
  const rows = [
    beside ? ["measured in the first step", memory.measured, "heron"] : ["most in use", memory.peak, "heron"],
    ["planned at most", memory.planned, "stone"],
  ].filter(([, size]) => size !== null && size !== undefined);
  const most = Math.max(...rows.map(([, size]) => size), 1e-9);
  const lines = rows.map(([label, size, tone]) =>
    element(
      "li",
      { class: `tone-${tone}` },
      element("span", {}, label),
      element("b", {}, gib(size)),
      element("i", { class: "track" }, styled(element("i", {}), { width: `${(100 * size) / most}%` })),
    ),
  );
  const whole =
    beside && memory.peak
      ? element(
          "p",
          { class: "aside" },
          "The whole process held up to ",
          element("b", {}, gib(memory.peak)),
          ", libraries and data included.",
        )
      : null;
  replace(box, lines.length ? element("ul", { class: "bars" }, lines) : element("p", { class: "none" }, "not recorded"), plan(memory), whole);
}

// What the plan is made of: its largest parts, and the rest together.
function plan({ parts, phase }) {
  if (!parts.length) return null;
  const most = PART_TONES.length,
    rest = parts.slice(most - 1).reduce((total, part) => total + part.gib, 0);
  const shown = parts.length > most ? [...parts.slice(0, most - 1), { name: "other", gib: rest }] : parts;
  const toned = shown.map(({ name, gib: size }, index) => ({ label: name, value: size, text: gib(size), tone: PART_TONES[index] }));
  return element("div", { class: "plan" }, element("p", { class: "aside" }, `Planned, at the peak (${PEAK.get(phase) ?? phase}):`),
    partsBar(toned, { label: "parts of the planned memory" }));
}

function drawFacts(box, state) {
  const { time, latest, checkpoint } = state;
  const facts = [
    ["tokens/s, sampling", count(time.speeds.sample)],
    ["tokens/s, training", count(time.speeds.train)],
    ["tokens sampled", count(latest.num_tokens)],
    ["rollouts a step", count(state.start.rollouts_per_step)],
    [
      "trained weights",
      state.start.trainable_parameters
        ? `${exact(state.start.trainable_parameters / 1e6)} M of ${exact(state.start.parameters / 1e6)} M`
        : "–",
    ],
    ["last checkpoint", checkpoint.step ? `step ${checkpoint.step}, ${clock(checkpoint.time)}` : "none yet"],
  ];
  replace(
    box,
    element(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
  );
}

function drawMessages(box, messages) {
  if (!messages.length) return replace(box);
  return replace(
    box,
    element(
      "section",
      { class: "card" },
      element("h3", {}, "What the run said"),
      element(
        "ul",
        { class: "said" },
        [...messages]
          .reverse()
          .map((message) =>
            element("li", {}, element("small", {}, clock(message.time)), element("span", { class: "hostile" }, message.text)),
          ),
      ),
    ),
  );
}
