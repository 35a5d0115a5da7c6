// Asks the server every second or two and hands what came to the parts of the page. All state of the page is in `state`.
// Only steps that are new are asked for; a run that was resumed has another generation and is fetched anew.

import { small } from "./charts.js";
import { element, figure, share } from "./dom.js";
import { buildRun } from "./panels.js";
import { buildRollouts } from "./rollouts.js";

const EVERY = 1500;
const state = { name: null, run: null, drawRun: null, drawRollouts: null };
const at = (id) => document.getElementById(id);

async function ask(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (answer.status === 403) throw new Error("The server was started anew: open the address that it printed.");
  const value = await answer.json();
  if (value.error) throw new Error(value.error);
  return value;
}

async function poll() {
  try {
    if (!document.hidden) await refresh();
    at("trouble").hidden = true;
  } catch (error) {
    at("trouble").hidden = false;
    at("trouble").textContent = error instanceof TypeError ? "The server does not answer; the page keeps trying." : error.message;
  }
  setTimeout(poll, EVERY);
}

async function refresh() {
  const { folder, runs } = await ask("/api/runs");
  at("folder").textContent = folder;
  const wanted = decodeURIComponent(location.hash.slice(1));
  const chosen = runs.find((run) => run.name === wanted) ?? runs[0];
  at("runs").replaceChildren(...runs.map((run) => runCard(run, run === chosen)));
  if (!runs.length) at("run").replaceChildren(element("p", { class: "none" }, "No runs yet. `heron train` makes one, and it appears here."));
  if (chosen) await show(chosen.name);
}

async function show(name) {
  if (name !== state.name) open(name);
  const path = `/api/runs/${encodeURIComponent(name)}`;
  const known = state.run?.metrics ?? [];
  let run = await ask(`${path}?after=${known.at(-1)?.step ?? 0}`);
  if (state.run && run.generation !== state.run.generation) run = await ask(path);
  else run.metrics = [...known, ...run.metrics];
  if (name !== state.name) return;
  const seen = JSON.stringify([run.metrics.length, run.generation, run.status, run.evaluations.length]);
  const changed = state.run?.seen !== seen;
  state.run = { ...run, seen };
  if (!changed) return;
  state.drawRun(state.run);
  state.drawRollouts(state.run);
  at("settings").replaceChildren(element("details", { open: at("settings").querySelector("details")?.open }, element("summary", {}, "Settings"), element("pre", {}, run.config)));
}

function open(name) {
  Object.assign(state, { name, run: null });
  document.title = `${name} · heron`;
  state.drawRun = buildRun(at("run"));
  state.drawRollouts = buildRollouts(at("rollouts"), (step) => ask(`/api/runs/${encodeURIComponent(name)}/rollouts/${step}`).catch(() => null));
}

function runCard(run, chosen) {
  const accuracy = run.after ?? run.before;
  const facts = run.error ?? [
    `${run.step}${run.max_steps ? `/${run.max_steps}` : ""}`,
    run.reward !== null && `reward ${figure(run.reward)}`,
    accuracy !== undefined && accuracy !== null && `${share(accuracy)} right`,
  ].filter(Boolean).join(" · ");
  return element("a", { href: `#${encodeURIComponent(run.name)}`, class: chosen ? "chosen" : "", title: run.status },
    element("span", { class: "name" }, element("i", { class: `light ${run.status}` }), run.name), small(run.curve), element("small", {}, facts));
}

addEventListener("hashchange", () => refresh().catch(() => {}));
addEventListener("resize", () => state.run && state.drawRun(state.run));
poll();
