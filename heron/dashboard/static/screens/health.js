// Policy health: the numbers that say whether the weights move as they should. Each says what is good; most of them are
// boring when all is well.

import { Chart } from "../charts.js";
import { element } from "../dom.js";
import { exact, share } from "../format.js";

const tiny = (value) =>
  value === null || value === undefined ? "–" : Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(1) : exact(value);

const CHARTS = [
  {
    title: "Entropy",
    say: "How undecided the model is, in nats per token. It falls slowly; near 0 too early, nothing new is tried.",
    metric: "entropy",
    floor: 0,
    lines: [["entropy", "entropy", "heron"]],
  },
  {
    title: "Distance from the start",
    say: "KL to the reference, in nats per token, where it is computed. Above 2 the model has gone far.",
    metric: "kl",
    floor: 0,
    lines: [["kl", "KL", "plum"]],
  },
  {
    title: "Clipped tokens",
    say: "Share that would have been pushed further, but for the clipping. 0 with one optimizer step per batch.",
    metric: "clip_ratio/region_mean",
    floor: 0,
    format: (value) => share(value, 1),
    ticks: "~%",
    lines: [
      ["clip_ratio/low_mean", "pushed down", "rust"],
      ["clip_ratio/high_mean", "pushed up", "reed"],
    ],
  },
  {
    title: "Ratio",
    say: "The largest and the smallest change of a token's probability since it was sampled. 1 on the first optimizer step.",
    metric: "ratio/max",
    lines: [
      ["ratio/max", "largest", "beak"],
      ["ratio/min", "smallest", "lake"],
    ],
  },
  {
    title: "Gradient",
    say: "Its norm before and after it is shortened. Single spikes are harmless; a lasting jump is not.",
    metric: "grad_norm",
    floor: 0,
    lines: [
      ["grad_norm", "before", "stone"],
      ["grad_norm_clipped", "after", "heron"],
    ],
  },
  {
    title: "Sampler against trainer",
    say: "How far apart they are about the same tokens' log-probs. Above 0.02, something else is trained than what was said.",
    metric: "sampling/logp_difference_mean",
    floor: 0,
    format: tiny,
    ticks: "",
    lines: [
      ["sampling/logp_difference_max", "largest", "stone"],
      ["sampling/logp_difference_mean", "mean", "heron"],
    ],
  },
  {
    title: "Learning rate",
    say: "The size of the optimizer's steps.",
    metric: "learning_rate",
    floor: 0,
    format: tiny,
    ticks: "",
    lines: [["learning_rate", "learning rate", "moss"]],
  },
  {
    title: "Pushes",
    say: "Advantages: the strongest push up and down, and the mean strength. A far outlier decides for all.",
    metric: "advantages/abs_mean",
    lines: [
      ["advantages/max", "up", "reed"],
      ["advantages/abs_mean", "mean strength", "heron"],
      ["advantages/min", "down", "rust"],
    ],
  },
];

export function build({ run, link }) {
  const charts = CHARTS.map(
    ({ title, say, metric, floor, format, ticks, lines }) =>
      new Chart({
        title,
        say,
        floor,
        format,
        ticks,
        height: 165,
        about: link(run, "explain", `?metric=${encodeURIComponent(metric)}`),
        lines: lines.map(([name, label, tone]) => ({ name, label, tone })),
      }),
  );
  return {
    node: element(
      "div",
      { class: "grid" },
      charts.map((chart) => chart.node),
    ),
    names: () => charts.flatMap((chart) => chart.names),
    close: () => charts.forEach((chart) => chart.close()),
    update: (state, curves) => Promise.all(charts.map((chart) => chart.draw(curves))),
  };
}
