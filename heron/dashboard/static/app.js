// The page: which run and which screen are looked at stands in the address (#/run/screen?...), all else follows from the news.
// A screen is built once when it is opened, and then told again and again what is known: `build(context)` gives
// { node, names, update, close }.

import { element, plain, replace } from "./dom.js";
import { drawHead, drawRuns } from "./shell.js";
import { Curves, decoded, encoded, Stream } from "./source.js";
import { Tabs } from "./tabs.js";
import { Trouble } from "./trouble.js";
import * as compare from "./screens/compare.js";
import * as explain from "./screens/explain.js";
import * as groups from "./screens/groups.js";
import * as health from "./screens/health.js";
import * as lengths from "./screens/lengths.js";
import * as now from "./screens/now.js";
import * as rewards from "./screens/rewards.js";

const SCREENS = [
  ["now", "Now", now],
  ["rewards", "Rewards", rewards],
  ["groups", "Groups", groups],
  ["lengths", "Lengths", lengths],
  ["health", "Policy health", health],
  ["compare", "Compare runs", compare],
  ["explain", "Explain", explain],
];
const AGAIN_MS = 3000;
const at = (id) => document.getElementById(id);
const page = { runs: [], run: null, state: null, curves: null, screen: null, name: null, busy: false, again: false };
const trouble = new Trouble(at("trouble"));
const tabs = new Tabs(at("tabs"), SCREENS, link);

const stream = new Stream({
  news: ({ state, curves }) => {
    if (state.name !== page.run) return;
    page.curves.hear(state.generation, curves);
    page.state = state;
    trouble.say("run", null);
    trouble.say("stream", null);
    draw();
  },
  runs: ({ folder, runs }) => {
    page.runs = runs;
    at("folder").textContent = plain(folder);
    drawRuns(at("runs"), runs, page.run);
    if (!runs.length) replace(at("screen"), element("p", { class: "none" }, "No runs yet. `heron train` makes one, and it appears here."));
    if (page.run === null && runs.length) location.replace(link(runs[0].name, "now"));
    else page.screen?.hear?.(runs);
  },
  gone: ({ error }) => trouble.say("run", error),
  lost: () =>
    trouble.say("stream", "The server does not answer; the page keeps trying. If it was started anew, open the address that it printed."),
  back: () => trouble.say("stream", null),
});

function link(run, screen, question = "") {
  return `#/${encoded(run)}/${screen}${question}`;
}

// What stands in the address.
function place() {
  const [path, question] = location.hash.slice(2).split("?");
  const [run, screen] = path.split("/").map(decoded);
  const known = SCREENS.find(([name]) => name === screen) ?? SCREENS[0];
  return { run: run || null, screen: known, question: question ? `?${question}` : "" };
}

function open() {
  const {
    run,
    screen: [name, title, module],
    question,
  } = place();
  if (run !== page.run) choose(run);
  document.title = run === null ? "heron" : `${plain(run)} · ${title} · heron`;
  at("chosen").textContent = plain(run ?? "");
  tabs.remember(name, question);
  tabs.draw(run, name);
  if (run === null) return;
  const asked = new URLSearchParams(question);
  if (page.name === name && page.screen?.ask) page.screen.ask(asked);
  else show(name, title, module, asked);
  draw();
}

function choose(run) {
  Object.assign(page, { run, state: null, curves: run === null ? null : new Curves(run) });
  trouble.say("run", null);
  tabs.forget();
  drawRuns(at("runs"), page.runs, run);
  replace(at("head"));
  stream.follow(run);
  shut();
}

// A screen takes the place of the one before. Whoever was on that one with the keyboard goes on at the new one's heading.
function show(name, title, module, asked) {
  shut();
  const run = page.run,
    wasInside = at("screen").contains(document.activeElement),
    heading = element("h2", { class: "unseen", tabindex: -1 }, title);
  page.name = name;
  page.screen = module.build({
    run,
    asked,
    runs: () => page.runs,
    go: (question) => go(run, name, question),
    link,
    attempt: (work) => trouble.attempt("asking", work),
  });
  replace(at("screen"), heading, page.screen.node);
  at("screen").className = name;
  if (wasInside) heading.focus({ preventScroll: true });
}

// Puts what a screen was asked for into the address, so that it can be sent to somebody and gone back to.
function go(run, screen, question) {
  const words = new URLSearchParams(
    Object.entries(question).flatMap(([name, value]) =>
      [value]
        .flat()
        .filter((one) => one !== null && one !== "" && one !== undefined)
        .map((one) => [name, one]),
    ),
  ).toString();
  tabs.remember(screen, words && `?${words}`);
  const target = link(run, screen, words && `?${words}`);
  if (target !== location.hash) history.replaceState(null, "", target);
}

function shut() {
  page.screen?.close?.();
  for (const where of ["drawing", "asking"]) trouble.say(where, null);
  Object.assign(page, { screen: null, name: null });
}

// One drawing at a time; news that come meanwhile are drawn once after it. Where nobody answered, it is tried again.
async function draw() {
  if (page.busy) {
    page.again = true;
    return;
  }
  if (!page.state || !page.screen) return;
  page.busy = true;
  const { screen } = page,
    isWorthAnother = await trouble.attempt("drawing", () => drawScreen(screen));
  page.busy = false;
  if (page.screen !== screen) trouble.say("drawing", null);
  if (page.again) {
    page.again = false;
    draw();
  } else if (isWorthAnother) setTimeout(draw, AGAIN_MS);
}

async function drawScreen(screen) {
  const { state, curves } = page;
  drawHead(at("head"), state);
  tabs.count("now", state.alerts.filter((alert) => alert.standing).length);
  const known = await curves.need(screen.names?.(state) ?? []);
  if (page.screen === screen && page.state?.name === state.name) await screen.update(page.state, known);
}

const phone = matchMedia("(max-width: 900px)");
const fold = () => {
  at("shelf").open = !phone.matches;
};
phone.addEventListener("change", fold);
at("runs").addEventListener("click", () => {
  if (!phone.matches) return;
  fold();
  at("main").focus({ preventScroll: true });
});
at("shelf").firstElementChild.addEventListener("click", (event) => {
  if (!phone.matches) event.preventDefault();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
addEventListener("hashchange", open);
fold();
open();
if (page.run === null) stream.follow(null);
