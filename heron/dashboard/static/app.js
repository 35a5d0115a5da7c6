// The page: which run and which screen are looked at stands in the address (#/run/screen?...), all else follows from the news.
// A screen is built once when it is opened, and then told again and again what is known: `build(context)` gives
// { node, names, update, close }.

import { element, plain, replace } from "./dom.js";
import { drawHead, drawRuns } from "./shell.js";
import { Curves, Stream } from "./source.js";
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
const at = (id) => document.getElementById(id);
const page = { runs: [], run: null, state: null, curves: null, screen: null, name: null, busy: false, again: false };

const stream = new Stream({
  news: ({ state, curves }) => {
    if (state.name !== page.run) return;
    page.curves.hear(state.generation, curves);
    page.state = state;
    say(null);
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
  gone: ({ error }) => say(error),
  lost: () => say("The server does not answer; the page keeps trying. If it was started anew, open the address that it printed."),
  back: () => say(null),
});

function link(run, screen, question = "") {
  return `#/${encodeURIComponent(run)}/${screen}${question}`;
}

// What stands in the address.
function place() {
  const [path, question] = location.hash.slice(2).split("?");
  const [run, screen] = path.split("/").map(decodeURIComponent);
  const known = SCREENS.find(([name]) => name === screen) ?? SCREENS[0];
  return { run: run || null, screen: known, asked: new URLSearchParams(question ?? "") };
}

function open() {
  const {
    run,
    screen: [name, title, module],
    asked,
  } = place();
  if (run !== page.run) {
    Object.assign(page, { run, state: null, curves: run === null ? null : new Curves(run) });
    drawRuns(at("runs"), page.runs, run);
    replace(at("head"));
    stream.follow(run);
    shut();
  }
  document.title = run === null ? "heron" : `${plain(run)} · ${title} · heron`;
  at("chosen").textContent = plain(run ?? "");
  drawTabs(name);
  if (run === null) return;
  if (page.name === name && page.screen?.ask) page.screen.ask(asked);
  else {
    shut();
    page.name = name;
    page.screen = module.build({ run, asked, runs: () => page.runs, go: (question) => go(run, name, question), link, say });
    replace(at("screen"), page.screen.node);
    at("screen").className = name;
  }
  draw();
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
  const target = link(run, screen, words && `?${words}`);
  if (target !== location.hash) history.replaceState(null, "", target);
}

function shut() {
  page.screen?.close?.();
  Object.assign(page, { screen: null, name: null });
}

// One drawing at a time; news that come meanwhile are drawn once after it.
async function draw() {
  if (page.busy) {
    page.again = true;
    return;
  }
  if (!page.state || !page.screen) return;
  page.busy = true;
  try {
    const { state, screen, curves } = page;
    drawHead(at("head"), state);
    drawAlertCount(state);
    const known = await curves.need(screen.names?.(state) ?? []);
    if (page.screen === screen && page.state?.name === state.name) await screen.update(page.state, known);
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer; the page keeps trying." : error.message);
    if (error instanceof TypeError) console.warn(error);
  } finally {
    page.busy = false;
    if (page.again) {
      page.again = false;
      draw();
    }
  }
}

function drawTabs(chosen) {
  const tabs = SCREENS.map(([name, title]) =>
    element("a", { href: link(page.run ?? "", name), id: `tab-${name}`, "aria-current": name === chosen && "page" }, title),
  );
  replace(at("tabs"), page.run === null ? [] : tabs);
  const current = at(`tab-${chosen}`);
  if (current) at("tabs").scrollLeft = current.offsetLeft - 60;
}

function drawAlertCount(state) {
  const standing = state.alerts.filter((alert) => alert.standing).length;
  const tab = at("tab-now");
  tab.querySelector("b")?.remove();
  if (standing) tab.append(element("b", { title: `${standing} alerts` }, String(standing)));
}

function say(words) {
  at("trouble").hidden = words === null;
  if (words !== null) replace(at("trouble"), words);
}

// The arrow keys move between tabs, as between the tabs of a window.
at("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key],
    tabs = [...at("tabs").children],
    now = tabs.indexOf(document.activeElement);
  if (step === undefined || now < 0) return;
  event.preventDefault();
  tabs[(now + step + tabs.length) % tabs.length].focus();
});

const phone = matchMedia("(max-width: 900px)");
const fold = () => {
  at("shelf").open = !phone.matches;
};
phone.addEventListener("change", fold);
at("runs").addEventListener("click", () => phone.matches && fold());
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
