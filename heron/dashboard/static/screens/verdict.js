// The first sentence of all: whether it learns, and the few figures that say so.

import { element, renew } from "../dom.js";
import { exact, share } from "../format.js";

export function drawVerdict(box, { mood, headline, sentence }) {
  box.className = `verdict ${mood}`;
  renew(box, [headline, sentence], () => [element("h2", {}, headline), element("p", {}, sentence)]);
}

export function drawChanges(box, { changes, evaluations }) {
  const shown = changes.map((change) => ({ change, way: change.name === "accuracy" ? direction(change, evaluations) : "" }));
  renew(box, shown, () => shown.map(({ change, way }) => figures(change, way)));
}

const inFigures = ({ name }) => (name === "reward" ? exact : (value) => share(value));

function figures(change, way) {
  const format = inFigures(change);
  const shown =
    change.now === null
      ? [element("strong", {}, format(change.start))]
      : [
          element("span", { class: "from" }, format(change.start)),
          element("span", { class: "arrow", role: "img", "aria-label": "to" }, "→"),
          element("strong", {}, format(change.now)),
        ];
  return element("div", { class: `change ${way}` }, element("div", { class: "figures" }, shown), element("small", {}, change.label));
}

// Better or worse is said where one sees a difference, and where chance would hardly have made it: the intervals lie apart.
function direction(change, evaluations) {
  const format = inFigures(change),
    measured = evaluations.filter((one) => Number.isFinite(one.accuracy)),
    [first, last] = [measured[0], measured.at(-1)];
  if (change.now === null || format(change.start) === format(change.now)) return "";
  if (last?.accuracy_low > first?.accuracy_high) return "better";
  return last?.accuracy_high < first?.accuracy_low ? "worse" : "";
}
