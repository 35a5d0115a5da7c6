// What stands around every screen: the list of runs, and the head of the chosen one.

import { element, replace } from "./dom.js";
import { duration, exact, share } from "./format.js";
import { spark } from "./small.js";
import { encoded } from "./source.js";

const inWords = (status) => (status === "running" ? "training" : status);

export function drawRuns(nav, runs, chosen) {
  const focused = document.activeElement?.dataset?.run;
  replace(
    nav,
    runs.map((run) => runLink(run, chosen !== null && encoded(run.name) === encoded(chosen))),
  );
  if (focused !== undefined) [...nav.children].find((link) => link.dataset.run === focused)?.focus();
}

function runLink(run, isChosen) {
  const steps = run.status === "finished" ? `${run.step} steps` : `${run.step ?? 0}${run.max_steps ? ` of ${run.max_steps}` : ""}`;
  const facts =
    run.error ??
    [steps, run.reward !== null && `reward ${exact(run.reward)}`, run.accuracy !== null && share(run.accuracy)].filter(Boolean).join(" · ");
  const screen = location.hash.slice(2).split("?")[0].split("/")[1] ?? "now";
  const link = element(
    "a",
    {
      href: `#/${encoded(run.name)}/${screen}`,
      "aria-current": isChosen && "true",
      title: `${run.name}: ${inWords(run.status)}`,
    },
    element("i", { class: `light ${run.status}`, role: "img", "aria-label": inWords(run.status) }),
    element("span", { class: "name hostile" }, run.name),
    spark(run.curve),
    element("small", {}, facts),
  );
  link.dataset.run = encoded(run.name);
  return link;
}

export function drawHead(head, state) {
  const { manifest, start, time } = state,
    most = start.max_steps;
  const about = [
    manifest.recipe && `recipe ${manifest.recipe}`,
    manifest.model && `model ${manifest.model}`,
    manifest.method && `${manifest.method} training`,
    manifest.seed !== undefined && `seed ${manifest.seed}`,
    manifest.created && `begun ${manifest.created.replace("T", " ").replace("+00:00", " UTC")}`,
  ];
  const left = time.left === null ? (time.seconds ? `took ${duration(time.seconds)}` : null) : `about ${duration(time.left)} left`;
  replace(
    head,
    element(
      "div",
      { class: "title" },
      element("h1", { class: "hostile" }, state.name),
      element("span", { class: `pill ${state.status}` }, inWords(state.status)),
    ),
    element("p", { class: "about" }, about.filter(Boolean).join("  ·  ")),
    element(
      "div",
      { class: "progress" },
      element("progress", { max: most || 1, value: Math.min(state.step, most || 1), "aria-label": "steps done" }),
      element(
        "span",
        {},
        element("b", {}, `step ${state.step}`),
        most ? ` of ${most}` : "",
        left && `  ·  ${left}`,
        reading(state.reading),
      ),
    ),
    state.error && element("p", { class: "notice bad" }, element("b", {}, "It ended with an error: "), state.error),
    state.resume && element("p", { class: "notice" }, "Go on with ", element("code", {}, state.resume)),
  );
}

function reading(progress) {
  if (!progress) return "";
  const [done, total] = progress.metrics[0] < progress.metrics[1] ? progress.metrics : progress.rollouts;
  return `  ·  reading the record, ${share(done / (total || 1))}`;
}
