// Rewards: the total, each function with its spread, and the luck meter: groups that are all right, mixed, all wrong.

import { Chart } from "../charts.js";
import { element, renew, replace } from "../dom.js";
import { exact, share } from "../format.js";
import { table } from "../table.js";
import { heldOut } from "./now.js";

const TONES = ["lake", "beak", "plum", "moss", "rust", "heron"];

export function build({ run, link }) {
  const about = (name) => link(run, "explain", `?metric=${encodeURIComponent(name)}`);
  const total = new Chart({
    title: "Total reward",
    say: "Mean over all answers of a step, with one standard deviation; diamonds are held-out problems, unmeasured in between.",
    height: 280,
    wide: true,
    about: about("reward"),
    lines: [{ name: "reward", std: "reward_std", label: "reward", tone: "heron", bold: true }],
  });
  const accuracy = new Chart({
    title: "Right answers",
    say: "Held-out accuracy with its 95 % interval; in training the share of right answers, and of groups with at least one.",
    floor: 0,
    ceiling: 1,
    format: share,
    about: about("pass@1"),
    lines: [
      { name: "pass@k", label: "best of a group", tone: "stone", faint: true },
      { name: "pass@1", label: "one answer", tone: "heron" },
    ],
  });
  const luck = new Chart({
    title: "Luck",
    say: "Groups whose answers are all right, mixed, or all wrong. Only mixed ones teach; without any, nothing is ever learnt.",
    floor: 0,
    ceiling: 1,
    format: share,
    stacked: true,
    about: about("groups/mixed"),
    lines: [
      { name: "groups/all_right", label: "all right", tone: "reed" },
      { name: "groups/mixed", label: "mixed", tone: "beak" },
      { name: "groups/all_wrong", label: "all wrong", tone: "stone" },
    ],
  });
  const functions = element("div", { class: "grid thirds" }),
    shares = element("div", { class: "shares" });
  let charts = [],
    known = "";
  const node = element(
    "div",
    {},
    element("div", { class: "grid" }, total.node, accuracy.node, luck.node),
    element("h2", { class: "section" }, "Reward functions"),
    element(
      "p",
      { class: "say" },
      "Each before its weight: mean and one standard deviation. One that never moves teaches nothing, whatever it pays.",
    ),
    shares,
    functions,
  );

  // Functions are known only once a step was recorded, and a resumed run may bring others.
  function arrange(state) {
    const names = state.functions.map((one) => one.name).join("\n");
    if (names === known) return;
    known = names;
    charts.forEach((chart) => chart.close());
    charts = state.functions.map(
      ({ name, weight }, index) =>
        new Chart({
          title: name,
          say: weight === null || weight === undefined ? null : `weight ${exact(weight)}`,
          height: 140,
          about: about("rewards/<name>/mean"),
          lines: [{ name: `rewards/${name}/mean`, std: `rewards/${name}/std`, label: "mean", tone: TONES[index % TONES.length] }],
        }),
    );
    replace(
      functions,
      charts.map((chart) => chart.node),
    );
  }

  return {
    node,
    names: (state) => {
      arrange(state);
      return [total, accuracy, luck, ...charts].flatMap((chart) => chart.names);
    },
    close: () => [total, accuracy, luck, ...charts].forEach((chart) => chart.close()),
    update: (state, curves) => {
      drawShares(shares, state);
      return Promise.all([
        total.draw(curves, [heldOut(state.evaluations)]),
        accuracy.draw(curves, [heldOut(state.evaluations, "accuracy", "held-out accuracy")]),
        luck.draw(curves),
        ...charts.map((chart) => chart.draw(curves)),
      ]);
    },
  };
}

const COLUMNS = ["function", "weight", "mean", "std", "of what is learnt", "said nothing"];

// What each function did at the newest step: whose differences are being learnt, and where one said nothing.
function drawShares(box, { functions, latest }) {
  const rows = functions.map(({ name, weight }, index) => {
    const value = (what) => latest[`rewards/${name}/${what}`];
    const values = [exact(weight), exact(value("mean")), exact(value("std")), share(value("share")), share(value("none"))];
    return { label: name, tone: TONES[index % TONES.length], values };
  });
  const columns = COLUMNS.map((label) => ({ label }));
  renew(box, rows, () => rows.length > 0 && table(columns, rows));
}
