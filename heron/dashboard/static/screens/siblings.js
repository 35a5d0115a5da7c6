// The answers of a group, from the best to the worst: what each was paid for, what was found in it, and its text as it is.

import { element, fill, styled, svg } from "../dom.js";
import { exact } from "../format.js";
import { cut, fold } from "../small.js";

const VERDICTS = new Map([
  ["right", ["✓", "right", "reed"]],
  ["wrong", ["✗", "wrong", "rust"]],
  ["unreadable", ["?", "no answer found", "beak"]],
]);
const MOST_TURNS = 4;
const judged = (verdict) => VERDICTS.get(verdict) ?? ["·", "not judged", "stone"];

// A bar for each sibling: above the line if it was made likelier, below it if not, in the colour of its verdict.
export function strip(siblings) {
  const most = Math.max(...siblings.map((one) => Math.abs(one.advantage ?? 0)), 1e-9),
    room = 9,
    middle = 13;
  const ordered = [...siblings].sort((one, other) => (other.advantage ?? 0) - (one.advantage ?? 0));
  const root = svg("svg", { class: "strip", width: room * siblings.length, height: 2 * middle, "aria-hidden": "true" });
  ordered.forEach((one, index) => {
    const tall = Math.max(2, (Math.abs(one.advantage ?? 0) / most) * (middle - 1)),
      up = (one.advantage ?? 0) >= 0;
    root.append(
      svg("rect", {
        class: `tone-${one.is_error ? "plum" : judged(one.verdict)[2]}`,
        x: index * room,
        y: up ? middle - tall : middle,
        width: room - 2,
        height: tall,
        rx: 1.5,
      }),
    );
  });
  return root;
}

export function detail(group, siblings, overTime) {
  const most = Math.max(...siblings.map((row) => Math.abs(row.advantage ?? 0)), 1e-9);
  return [
    element(
      "header",
      {},
      element("h3", { class: "question hostile" }, group.question),
      element(
        "p",
        { class: "wanted" },
        "reference ",
        cut(group.answer ?? "none"),
        element("span", { class: "chip" }, cut(group.prompt, { tag: "span" })),
        element("span", { class: "chip" }, `step ${group.step}`),
        overTime && element("button", { type: "button", class: "small", onclick: overTime }, "this prompt over time"),
      ),
    ),
    element(
      "ol",
      { class: "siblings" },
      merged(siblings).map(([row, times], index, all) =>
        element("li", {}, element("h4", { class: "unseen" }, `Answer ${index + 1} of ${all.length}`), sibling(row, times, most)),
      ),
    ),
  ];
}

// Siblings that said the same for the same pay are shown once.
function merged(siblings) {
  const kinds = new Map();
  for (const row of siblings) {
    const kind = JSON.stringify([
      row.text,
      row.conversation,
      row.rewards,
      row.advantage,
      row.verdict,
      row.finish_reason,
      row.error,
      row.extras,
    ]);
    kinds.set(kind, [row, (kinds.get(kind)?.[1] ?? 0) + 1]);
  }
  return [...kinds.values()];
}

function sibling(row, times, most) {
  const [sign, word, tone] = judged(row.verdict),
    advantage = row.advantage ?? 0;
  const side = advantage > 0 ? "up" : advantage < 0 ? "down" : "even";
  const wide = styled(element("i", { class: side }), { width: `${(50 * Math.abs(advantage)) / most}%` });
  return element(
    "article",
    { class: `sibling ${side}` },
    element(
      "div",
      { class: "push", title: "advantage: how strongly it is made likelier or rarer" },
      element("b", {}, `${advantage > 0 ? "+" : ""}${exact(advantage)}`),
      element("span", { class: "track" }, wide),
    ),
    element(
      "div",
      { class: "facts" },
      element("span", { class: `verdict tone-${tone}` }, element("b", { "aria-hidden": "true" }, sign), ` ${word}`),
      times > 1 && element("span", { class: "times" }, element("b", {}, `${times}×`), " the same"),
      found(row),
      element("span", { class: "chip" }, "reward ", element("b", {}, exact(row.reward))),
      Object.entries(row.rewards ?? {}).map(([name, value]) =>
        element(
          "span",
          { class: "chip" },
          element("span", { class: "hostile" }, name),
          " ",
          element("b", {}, value === null ? "none" : exact(value)),
        ),
      ),
      row.follows_format === false && element("span", { class: "chip" }, "not in the format"),
      ending(row),
    ),
    row.error && element("p", { class: "notice bad hostile" }, row.error),
    row.conversation ? conversation(row) : text(row),
    row.extras &&
      element(
        "details",
        {},
        element("summary", {}, "what the environment noted"),
        element("pre", { class: "hostile", tabindex: 0 }, JSON.stringify(row.extras, null, 2)),
      ),
  );
}

function found(row) {
  if (row.extracted === null || row.extracted === undefined) return null;
  return element("span", { class: "chip" }, "found ", cut(row.extracted));
}

function ending(row) {
  const how = row.finish_reason === "length" ? ", cut off" : row.finish_reason === "stop" ? "" : `, ended by ${row.finish_reason}`;
  return element("span", { class: `chip ${row.finish_reason === "length" ? "cut-off" : ""}` }, element("b", {}, row.length), " tokens", how);
}

function text(row) {
  const given = row.prefilled && element("span", { class: "given" }, row.prefilled),
    node = element("pre", { class: "hostile", tabindex: 0, "aria-label": "the answer" }, given);
  return row.text ? fold(node, row.text) : fill(node, element("span", { class: "faint" }, "(nothing)"));
}

// Of many turns the first and the last ones tell most: how it began, and what it came to.
function conversation(row) {
  const turns = row.conversation.map((one) => turn(one)),
    between = turns.length > MOST_TURNS ? turns.slice(MOST_TURNS / 2, -MOST_TURNS / 2) : [];
  for (const one of between) one.hidden = true;
  const more = between.length > 0 && element("li", {}, element("button", { type: "button", class: "small", onclick: () => show() }, label(between)));
  const show = () => {
    for (const one of between) one.hidden = false;
    more.remove();
    between[0].querySelector("pre").focus();
  };
  return element("ol", { class: "conversation" }, turns.slice(0, MOST_TURNS / 2), more, turns.slice(MOST_TURNS / 2));
}

const label = (turns) => (turns.length === 1 ? "show the turn between" : `show the ${turns.length} turns between`);

function turn(one) {
  const said = typeof one?.content === "string" ? one.content : JSON.stringify(one, null, 2);
  return element(
    "li",
    {},
    element("small", { class: "hostile" }, one?.role ?? ""),
    fold(element("pre", { class: "hostile", tabindex: 0 }), said),
  );
}
