// Explain: every number that is logged, in plain words: what it says, how it is computed, what is good, what to do
// otherwise, and its value now. Its many small curves are fetched anew now and then, a few points each.

import { element, replace } from "../dom.js";
import { exact } from "../format.js";
import { spark } from "../small.js";
import { address, ask } from "../source.js";

const POINTS = 100;
const AT_ONCE = 10;
const AGAIN_MS = 10000;

export function build({ run, asked, go }) {
  let names = "",
    fetched = -Infinity,
    wanted = asked.get("metric");
  const search = element("input", {
    type: "search",
    placeholder: "find a number",
    "aria-label": "find a number",
    value: asked.get("find"),
    oninput: () => {
      wanted = null;
      go({ find: search.value });
      filter();
    },
  });
  const list = element("div", { class: "sections" });
  const node = element(
    "div",
    {},
    element(
      "div",
      { class: "bar" },
      element("p", { class: "say" }, "Every number this page shows, and every other one that is logged."),
      search,
    ),
    list,
  );
  const live = new Map(),
    entries = [];
  async function arrange(state) {
    if (state.names.join() === names) return;
    const sections = await ask(address(run, "/explain"));
    names = state.names.join();
    entries.length = 0;
    live.clear();
    fetched = -Infinity;
    replace(
      list,
      sections.map((section) =>
        element(
          "section",
          {},
          element("h2", { class: "section" }, section.title),
          element("div", { class: "metrics" }, section.metrics.map(entry)),
        ),
      ),
    );
    filter();
    show();
  }

  function entry(metric) {
    const values = metric.values.map(({ name }) => {
      const value = element("b", { class: "number" }),
        curve = element("span", {});
      live.set(name, { value, curve });
      return element("div", { class: "live" }, name === metric.name ? null : element("code", { class: "hostile" }, name), curve, value);
    });
    const isOne = metric.values.length === 1 && metric.values[0].name === metric.name;
    const said = metric.sentence && [
      element("p", { class: "sentence" }, metric.sentence),
      element(
        "dl",
        {},
        [
          ["computed as", metric.formula],
          ["good looks like", metric.good],
          ["if not", metric.otherwise],
        ]
          .filter(([, words]) => words !== "-")
          .map(([label, words]) => element("div", {}, element("dt", {}, label), element("dd", {}, words))),
      ),
    ];
    const node = element(
      "article",
      { class: `metric card ${values.length ? "" : "absent"}`, tabindex: -1 },
      element("div", { class: "heading" }, element("h3", {}, element("code", { class: "hostile" }, metric.name)), isOne && values),
      isOne ? null : values.length ? values : element("p", { class: "faint" }, "not logged by this run"),
      said,
    );
    entries.push({ node, words: JSON.stringify(metric).toLowerCase(), names: [metric.name, ...metric.values.map((value) => value.name)] });
    return node;
  }

  function filter() {
    const words = search.value.toLowerCase();
    for (const { node, words: own } of entries) node.hidden = !own.includes(words);
    for (const section of list.children) section.hidden = ![...section.querySelectorAll(".metric")].some((one) => !one.hidden);
  }

  function show() {
    const found = entries.find(({ names: own }) => own.includes(wanted));
    if (!found) return;
    wanted = null;
    found.node.scrollIntoView({ block: "center" });
    found.node.focus({ preventScroll: true });
    found.node.classList.add("wanted");
  }

  return {
    node,
    names: () => [],
    ask: (question) => {
      wanted = question.get("metric");
      search.value = question.get("find") ?? "";
      filter();
      show();
    },
    update: async (state) => {
      await arrange(state);
      for (const [name, { value }] of live) replace(value, exact(state.latest[name]));
      if (performance.now() - fetched < AGAIN_MS) return;
      fetched = performance.now();
      const all = [...live.keys()];
      for (let at = 0; at < all.length && node.isConnected; at += AT_ONCE) {
        const name = all.slice(at, at + AT_ONCE);
        const { curves } = await ask(address(run, "/curves", { name, points: POINTS }));
        for (const one of name) replace(live.get(one).curve, spark(curves[one]?.values ?? [], { width: 110, height: 24 }));
      }
    },
  };
}
