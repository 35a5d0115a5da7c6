// Groups: a step, its prompts, and each prompt's answers from the best to the worst, with all that was made of them.
// Reading is not disturbed: the list changes by itself only while the newest step is followed.

import { element, replace } from "../dom.js";
import { count } from "../format.js";
import { address, ask } from "../source.js";
import { detail, strip } from "./siblings.js";

const FILTERS = [
  ["all", "all"],
  ["signal", "with signal"],
  ["no-signal", "without signal"],
  ["right", "right"],
  ["wrong", "wrong"],
  ["rewarded-but-wrong", "rewarded but wrong"],
  ["truncated", "cut off"],
  ["errors", "errors"],
  ["highest", "highest reward"],
  ["lowest", "lowest reward"],
];
const AT_ONCE = 24;
const AGAIN_MS = 3000;

export function build({ run, asked, go, attempt }) {
  const wish = {
    step: Number(asked.get("step")) || null,
    all: asked.has("all"),
    filter: asked.get("filter") ?? "all",
    search: asked.get("search") ?? "",
    prompt: asked.get("prompt"),
    group: asked.get("group"),
  };
  let newest = 0,
    follow = wish.step === null,
    ticket = 0,
    groups = [],
    listed = null,
    opened = null,
    reading = 0,
    generation = null;

  const slider = element("input", { type: "range", min: 1, max: 1, "aria-label": "step", oninput: () => toStep(Number(slider.value)) });
  const [back, on] = [
    ["‹", "previous step", -1],
    ["›", "next step", 1],
  ].map(([sign, label, by]) => element("button", { type: "button", "aria-label": label, onclick: () => toStep(step() + by) }, sign));
  const where = element("output", {});
  const following = element("input", {
    type: "checkbox",
    onchange: () => {
      follow = following.checked;
      if (follow) toStep(newest);
    },
  });
  const everywhere = element("input", { type: "checkbox", onchange: () => change({ all: everywhere.checked }) });
  const filters = element(
    "div",
    { class: "filters", role: "group", "aria-label": "which groups" },
    FILTERS.map(([name, label]) =>
      element("button", { type: "button", id: `filter-${name}`, onclick: () => change({ filter: name }) }, label),
    ),
  );
  const search = element("input", {
    type: "search",
    placeholder: "words in questions and answers",
    "aria-label": "search",
    value: wish.search,
    oninput: () => {
      clearTimeout(search.timer);
      search.timer = setTimeout(() => change({ search: search.value }), 250);
    },
  });
  const about = element("p", { class: "found", "aria-live": "polite" }),
    list = element("ol", { class: "list" }),
    pane = element("section", { class: "pane", "aria-label": "the group's answers" });
  const node = element(
    "div",
    { class: "groups" },
    element(
      "div",
      { class: "bar" },
      element("div", { class: "steps" }, back, slider, on, where),
      element("label", {}, following, "follow the newest"),
      element("label", {}, everywhere, "all steps"),
      search,
    ),
    filters,
    element("div", { class: "panes" }, element("div", { class: "left" }, element("h3", { class: "unseen" }, "Prompts"), about, list), pane),
  );

  const step = () => Math.max(1, Math.min(wish.step ?? newest, newest));

  function toStep(wanted) {
    const next = Math.max(1, Math.min(wanted, newest));
    if (next !== newest) follow = false;
    change({ step: next, all: false, prompt: null });
  }

  function change(what) {
    Object.assign(wish, what, { group: null });
    return load();
  }

  // From the first one on, or those that come after the ones that are shown.
  async function load(offset = 0, isQuiet = false) {
    if (!newest) return clear();
    if (follow) wish.step = newest;
    draw();
    const mine = (ticket += 1),
      isWide = wish.all || wish.prompt !== null;
    const question = {
      step: isWide ? null : step(),
      filter: wish.filter,
      search: wish.search,
      prompt: wish.prompt,
      order: isWide && wish.prompt === null ? "step" : "oldest",
      limit: AT_ONCE,
      offset,
    };
    const isWorthAnother = await attempt(async () => {
      const page = await ask(address(run, "/groups", question));
      if (mine !== ticket) return;
      groups = [...groups.slice(0, offset), ...page.groups];
      drawList(page.total, isWide, offset, isQuiet);
    });
    if (isWorthAnother) setTimeout(() => mine === ticket && node.isConnected && load(offset, isQuiet), AGAIN_MS);
  }

  function clear() {
    groups = [];
    replace(about);
    replace(pane);
    replace(list, element("li", { class: "none" }, "no step yet"));
  }

  function draw() {
    slider.max = newest;
    slider.value = step();
    slider.setAttribute("aria-valuetext", `step ${step()} of ${newest}`);
    where.textContent = wish.all || wish.prompt !== null ? "all steps" : `step ${step()} of ${newest}`;
    back.disabled = step() <= 1;
    on.disabled = step() >= newest;
    following.checked = follow;
    if (document.activeElement !== search) search.value = wish.search;
    everywhere.checked = wish.all;
    for (const [name] of FILTERS) filters.querySelector(`#filter-${name}`).setAttribute("aria-pressed", name === wish.filter);
    const { all, filter, search: words, prompt, group } = wish;
    go({ step: follow ? null : step(), all: all ? 1 : null, filter: filter === "all" ? null : filter, search: words, prompt, group });
  }

  function drawList(total, isWide, offset, isQuiet) {
    const hadFocus = [about, list, pane].some((part) => part.contains(document.activeElement));
    const what = total === 1 ? "1 group" : `${count(total)} groups`;
    replace(
      about,
      what,
      isWide ? " in all steps" : ` in step ${step()}`,
      wish.prompt !== null && [
        ": one prompt over time ",
        element("button", { type: "button", class: "small", onclick: () => change({ prompt: null }) }, "show all prompts"),
      ],
    );
    const more =
      total > groups.length &&
      element(
        "li",
        {},
        element(
          "button",
          { type: "button", class: "more", onclick: () => load(groups.length) },
          `${count(total - groups.length)} more`,
        ),
      );
    replace(
      list,
      groups.map((group, index) => element("li", {}, entry(group, index, isWide))),
      more,
      !groups.length && element("li", { class: "none" }, "no group is so"),
    );
    listed = step();
    if (offset) return list.querySelectorAll(".entry")[offset].focus();
    const wanted = groups.findIndex((group) => `${group.step}.${group.group}` === wish.group);
    if (groups.length) open(Math.max(0, wanted), wanted >= 0, isQuiet);
    else replace(pane);
    if (hadFocus) (list.querySelectorAll(".entry")[Math.max(0, wanted)] ?? search).focus();
  }

  function entry(group, index, isWide) {
    const right = group.siblings.filter((one) => one.verdict === "right").length,
      judged = group.siblings.some((one) => one.verdict !== null);
    const facts = [
      isWide && `step ${group.step}`,
      judged && `${right} of ${group.siblings.length} right`,
      group.siblings.every((one) => !one.advantage) && "no signal",
      group.siblings.some((one) => one.is_error) && "errors",
    ].filter(Boolean);
    return element(
      "button",
      { type: "button", class: "entry", onclick: () => open(index, true) },
      element("span", { class: "question hostile" }, group.question),
      strip(group.siblings),
      element("small", {}, facts.join(" · ")),
    );
  }

  async function open(index, byHand = false, isQuiet = false) {
    const group = groups[index],
      identity = `${group.step}.${group.group}`;
    [...list.querySelectorAll(".entry")].forEach((one, at) => one.setAttribute("aria-current", at === index));
    opened = index;
    if (byHand) {
      follow = false; // what is being read stays
      wish.group = identity;
      draw();
    }
    const mine = (reading += 1);
    await attempt(async () => {
      const { siblings } = await ask(address(run, `/groups/${group.step}/${group.group}`));
      if (mine !== reading) return;
      replace(
        pane,
        detail(group, siblings, wish.prompt === null ? () => change({ prompt: group.prompt, search: "", filter: "all" }) : null),
      );
      if (byHand && !isQuiet && matchMedia("(max-width: 900px)").matches) pane.scrollIntoView({ behavior: "smooth", block: "start" });
    });
  }

  function press(event) {
    const isHere = event.target === document.body || node.contains(event.target),
      writes = event.target.matches("input, select, textarea, pre");
    if (!isHere || writes || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key],
      rows = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (steps) toStep(step() + steps);
    else if (rows && groups.length) {
      const entries = list.querySelectorAll(".entry"),
        next = Math.max(0, Math.min((opened ?? 0) + rows, groups.length - 1));
      entries[next].focus();
      open(next, true);
    } else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", press);
  return {
    node,
    close: () => document.removeEventListener("keydown", press),
    update: async (state) => {
      const isFirst = generation === null || newest === 0,
        isOther = !isFirst && (state.generation !== generation || state.step < newest); // resumed: steps were taken back
      [newest, generation] = [state.step, state.generation];
      if (isOther && wish.step !== null) wish.step = step();
      if (isFirst || isOther) await load(0, isOther);
      else if (follow && !wish.all && wish.prompt === null && listed !== newest) await load();
      else draw();
    },
  };
}
