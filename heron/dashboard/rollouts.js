// The rollout viewer: a step, its groups, and in each group the siblings from the best to the worst with every reward.
// It is drawn again only when another step or filter is chosen, so reading is not disturbed while the run goes on.

import { element, figure } from "./dom.js";

const FILTERS = [
  ["all groups", () => true],
  ["with signal", (group) => group.has_signal],
  ["without signal", (group) => !group.has_signal],
  ["with a truncated answer", (group) => group.siblings.some((row) => row.finish_reason === "length")],
];
const AT_ONCE = 8;

export function buildRollouts(section, load) {
  const state = { steps: [], step: null, follow: true, filter: 0, words: "", shown: AT_ONCE, groups: [], asked: 0 };
  const slider = element("input", { type: "range", min: 0, max: 0, "aria-label": "step", oninput: () => choose(Number(slider.value), slider.value === slider.max) });
  const label = element("output", {});
  const filter = element("select", { "aria-label": "filter", onchange: () => { state.filter = filter.selectedIndex; state.shown = AT_ONCE; draw(); } }, FILTERS.map(([name]) => element("option", {}, name)));
  const search = element("input", { type: "search", placeholder: "search in questions and answers", oninput: () => { state.words = search.value.toLowerCase(); state.shown = AT_ONCE; draw(); } });
  const list = element("div", { class: "groups" });
  const move = (by) => choose(Number(slider.value) + by, Number(slider.value) + by >= state.steps.length - 1);
  section.replaceChildren(element("div", { class: "bar" },
    element("h3", {}, "Rollouts"),
    element("button", { type: "button", "aria-label": "previous step", onclick: () => move(-1) }, "‹"), slider,
    element("button", { type: "button", "aria-label": "next step", onclick: () => move(1) }, "›"), label, filter, search), list);

  async function choose(index, follow) {
    state.follow = follow;
    const step = state.steps[Math.max(0, Math.min(index, state.steps.length - 1))];
    slider.value = state.steps.indexOf(step);
    label.textContent = step === undefined ? "" : `step ${step}${follow ? ", the newest" : ""}`;
    if (step === undefined || step === state.step) return;
    const ticket = (state.asked += 1);
    const answer = await load(step);
    if (ticket !== state.asked || !answer) return;
    Object.assign(state, { step, groups: answer.groups, shown: AT_ONCE });
    draw();
  }

  function draw() {
    const hit = (group) => !state.words || [group.question, ...group.siblings.map((row) => row.text)].some((text) => text.toLowerCase().includes(state.words));
    const found = state.groups.filter((group) => FILTERS[state.filter][1](group) && hit(group));
    const rest = found.length - state.shown;
    const more = rest > 0 && element("button", { type: "button", class: "more", onclick: () => { state.shown += AT_ONCE; draw(); } }, `${rest} more groups`);
    const none = !found.length && element("p", { class: "none" }, state.groups.length ? "no group fits the filter" : "no rollouts recorded yet");
    list.replaceChildren(...[...found.slice(0, state.shown).map((group, index) => groupCard(group, index === 0)), more, none].filter(Boolean));
  }

  draw();
  return (run) => {
    state.steps = run.rollout_steps;
    slider.max = Math.max(0, state.steps.length - 1);
    if (state.follow) choose(state.steps.length - 1, true);
    else slider.value = state.steps.indexOf(state.step);
  };
}

function groupCard(group, open) {
  const paid = group.siblings.filter((row) => row.advantage > 0).length;
  const summary = group.has_signal ? `${paid} of ${group.siblings.length} above the group's mean` : "all equal: no signal";
  const most = Math.max(...group.siblings.map((row) => Math.abs(row.advantage)), 1e-9);
  return element("details", { class: "group", open },
    element("summary", {}, element("span", { class: "question" }, group.question), element("span", { class: "strip" }, group.siblings.map((row) => element("i", { class: sign(row) }))), element("small", {}, summary)),
    element("p", { class: "reference" }, "reference answer ", element("b", {}, group.answer ?? "none"), element("small", {}, group.prompt)),
    group.siblings.map((row) => sibling(row, most)));
}

function sibling(row, most) {
  const rewards = Object.entries(row.rewards).map(([name, value]) => element("span", { class: "reward" }, `${name} `, element("b", {}, figure(value))));
  const bar = element("meter", { class: sign(row), min: 0, max: most, value: Math.abs(row.advantage), title: `advantage ${figure(row.advantage)}` });
  return element("div", { class: "sibling" },
    element("div", { class: "facts" },
      element("span", { class: `advantage ${sign(row)}` }, `${row.advantage > 0 ? "+" : ""}${figure(row.advantage)}`), bar,
      element("span", { class: "total" }, "reward ", element("b", {}, figure(row.reward))), rewards,
      element("small", {}, `${row.length} tokens`), row.finish_reason === "length" && element("small", { class: "cut" }, "truncated")),
    element("pre", {}, row.prefilled && element("span", { class: "prefilled" }, row.prefilled), row.text));
}

function sign(row) {
  return row.advantage > 0 ? "up" : row.advantage < 0 ? "down" : "even";
}
