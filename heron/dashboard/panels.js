// The picture of one run: where it is, what looks wrong, its figures, its charts. Built once per run, then only updated.
// Every chart says in one sentence what it shows, and what is good.

import { curves, stacked, whiskers } from "./charts.js";
import { duration, element, figure, share } from "./dom.js";

const percent = (value) => `${Math.round(100 * value)} %`;
const seconds = (value) => `${figure(value, value >= 10 ? 0 : 1)} s`;

const CHARTS = [
  {
    title: "Total reward", wide: true, draw: drawReward,
    say: "Mean over all answers of a step; the shade is one standard deviation. It should rise, with noise.",
  },
  {
    title: "Held-out accuracy", draw: drawAccuracy,
    say: "Problems that are never trained on, answered greedily, with the 95 % interval. This is what counts.",
  },
  {
    title: "Signal", key: "groups/with_signal", draw: drawShare,
    say: "Share of groups whose answers got unequal rewards: only they teach. Near 0, nothing is learnt.",
  },
  {
    title: "Length", draw: drawLength,
    say: "Tokens per answer: mean, with the shortest and the longest. A sudden fall or climb is worth a look.",
  },
  {
    title: "Truncated", key: "completions/clipped_ratio", draw: drawShare,
    say: "Share of answers that reached the token limit. Above 30 %, raise the limit.",
  },
  {
    title: "Time per step", draw: drawTime,
    say: "Seconds in each phase, one upon the other.",
  },
  {
    title: "Speed", keys: [["throughput/sample_tokens_per_second", "sampled tokens/s"], ["throughput/train_tokens_per_second", "trained tokens/s"]], digits: 0, draw: drawKeys,
    say: "Tokens per second while sampling and while training.",
  },
  {
    title: "Distance from the start", keys: [["kl", "KL"], ["entropy", "entropy"]], draw: drawKeys,
    say: "KL to the reference (if it is computed) and entropy in nats. Entropy falls as the model grows sure.",
  },
  {
    title: "Gradient norm", keys: [["grad_norm", "norm before clipping"]], draw: drawKeys,
    say: "Should stay of one size; a lasting jump calls for a lower learning rate.",
  },
];

export function buildRun(section) {
  const parts = {
    head: element("div", { class: "head" }),
    alerts: element("div", { class: "alerts" }),
    tiles: element("div", { class: "tiles" }),
    functions: element("div", { class: "functions" }),
  };
  const cards = CHARTS.map((chart) => ({ chart, box: element("div", { class: "chart" }) }));
  const grid = element("div", { class: "grid" }, cards.map(({ chart, box }) => card(chart, box)));
  const functions = element("article", { class: "card wide" }, element("h3", {}, "Reward functions"),
    element("p", { class: "say" }, "Mean of each, unweighted; the shade is one standard deviation. One that stays flat teaches nothing."), parts.functions);
  grid.children[0].after(functions);
  section.replaceChildren(parts.head, parts.alerts, parts.tiles, grid);
  return (run) => {
    drawHead(parts.head, run);
    parts.alerts.replaceChildren(...run.alerts.map((alert) => element("p", { class: "alert" }, element("b", {}, alert.title), ` ${alert.evidence}. ${alert.advice}`)));
    drawTiles(parts.tiles, run);
    drawFunctions(parts.functions, run);
    for (const { chart, box } of cards) chart.draw(box, run, chart);
  };
}

export function rewardNames(run) {
  const keys = new Set(run.metrics.flatMap((record) => Object.keys(record)));
  return [...keys].filter((key) => /^rewards\/.+\/mean$/.test(key)).map((key) => key.slice("rewards/".length, -"/mean".length));
}

function card(chart, box) {
  return element("article", { class: chart.wide ? "card wide" : "card" }, element("h3", {}, chart.title), element("p", { class: "say" }, chart.say), box);
}

function drawHead(box, run) {
  const last = run.metrics.at(-1), most = run.start.max_steps, step = last?.step ?? 0;
  const recent = run.metrics.slice(-20).map((record) => record["time/step"]).filter((value) => value);
  const left = recent.length && most ? (recent.reduce((sum, value) => sum + value, 0) / recent.length) * (most - step) : null;
  const about = [run.manifest.model, run.start.method && `${run.start.method} training`, run.manifest.created?.replace("T", " ").replace("+00:00", " UTC")].filter(Boolean);
  box.replaceChildren(
    element("div", { class: "title" }, element("h2", {}, run.name), element("span", { class: `pill ${run.status}` }, run.status)),
    element("p", { class: "about" }, about.join("  ·  ")),
    element("div", { class: "progress" },
      element("progress", { max: most ?? 1, value: step }),
      element("span", {}, element("b", {}, `${step}`), most ? ` of ${most} steps` : " steps", run.status === "running" && left ? `  ·  about ${duration(left)} left` : "")),
  );
}

function drawTiles(box, run) {
  const last = run.metrics.at(-1) ?? {}, first = run.metrics[0] ?? {};
  const before = run.evaluations.find((item) => item.name === "before"), latest = run.evaluations.at(-1);
  const changed = latest && latest !== before && before;
  box.replaceChildren(
    tile("Held-out accuracy", latest ? share(latest.accuracy) : "-", changed ? `from ${share(before.accuracy)} before` : interval(latest), "accent"),
    tile("Reward", figure(last.reward), run.metrics.length > 1 ? `from ${figure(first.reward)} at step ${first.step}` : ""),
    tile("Groups with signal", share(last["groups/with_signal"]), "at the newest step"),
    tile("Length", `${figure(last["completions/mean_length"], 0)}`, `tokens, ${share(last["completions/clipped_ratio"])} truncated`),
    tile("Step", duration(last["time/step"]), `sampling at ${figure(last["throughput/sample_tokens_per_second"], 0)} tokens/s`),
    tile("Memory", last["memory/peak_gib"] === undefined ? "-" : `${figure(last["memory/peak_gib"])} GiB`, "peak"),
  );
}

function interval(totals) {
  return totals?.accuracy_low === undefined ? "" : `95 % interval ${(100 * totals.accuracy_low).toFixed(1)} to ${(100 * totals.accuracy_high).toFixed(1)}`;
}

function tile(label, value, note, kind = "") {
  return element("div", { class: `tile ${kind}` }, element("span", {}, label), element("strong", {}, value), element("small", {}, note));
}

function drawFunctions(box, run) {
  const names = rewardNames(run);
  while (box.children.length > names.length) box.lastChild.remove();
  while (box.children.length < names.length) box.append(element("div", {}, element("h4", {}), element("div", { class: "chart" })));
  names.forEach((name, index) => {
    const [heading, chart] = box.children[index].children;
    const last = run.metrics.at(-1) ?? {};
    heading.replaceChildren(element("span", {}, name), element("b", {}, figure(last[`rewards/${name}/mean`])), element("small", {}, `± ${figure(last[`rewards/${name}/std`])}`));
    curves(chart, steps(run), [spread(run, `rewards/${name}/mean`, `rewards/${name}/std`, name, 1 + (index % 5))], { height: 120 });
  });
}

function drawReward(box, run) {
  curves(box, steps(run), [{ ...spread(run, "reward", "reward_std", "reward", 0), bold: true }], { height: 260 });
}

function drawAccuracy(box, run) {
  const points = run.evaluations.map((item) => ({ label: item.name.replace(/^step-0*/, "step "), value: item.accuracy, low: item.accuracy_low, high: item.accuracy_high }));
  whiskers(box, points, { format: percent });
}

function drawShare(box, run, chart) {
  curves(box, steps(run), [{ name: chart.title.toLowerCase(), tone: 0, values: column(run, chart.key) }], { floor: 0, ceiling: 1, format: percent });
}

function drawLength(box, run) {
  const line = { name: "tokens", tone: 0, values: column(run, "completions/mean_length"), low: column(run, "completions/min_length"), high: column(run, "completions/max_length") };
  curves(box, steps(run), [line], { floor: 0, format: (value) => figure(value, 0) });
}

function drawTime(box, run) {
  const series = ["sample", "score", "train"].map((phase, index) => ({ name: phase, tone: index + 1, values: column(run, `time/${phase}`) }));
  stacked(box, steps(run), series, { format: seconds });
}

function drawKeys(box, run, chart) {
  const series = chart.keys.map(([key, name], tone) => ({ name, tone, values: column(run, key) })).filter((line) => line.values.some((value) => value !== null));
  curves(box, series.length ? steps(run) : [], series, { floor: 0, format: (value) => figure(value, chart.digits ?? 3) });
}

function steps(run) {
  return run.metrics.map((record) => record.step);
}

function column(run, key) {
  return run.metrics.map((record) => record[key] ?? null);
}

function spread(run, mean, std, name, tone) {
  const means = column(run, mean), stds = column(run, std);
  const edge = (sign) => means.map((value, index) => (value === null ? null : value + sign * (stds[index] ?? 0)));
  return { name, tone, values: means, low: edge(-1), high: edge(1) };
}
